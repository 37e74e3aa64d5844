// Before anything is drawn: the colours that were chosen last. (No module: those come too late.)
try {
  const chosen = localStorage.getItem("theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch {
  // this browser keeps nothing: the system's colours then
}
