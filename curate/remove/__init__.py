"""`curate remove`: which samples are meant (`find`), and what the command says and does (`command`)."""
