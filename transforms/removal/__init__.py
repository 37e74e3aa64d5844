"""Samples taken out of a store: what goes, what stays, and how a killed removal goes on.

**What removal means.** A row stays a row, so that all groups stay aligned and every input row keeps a
verdict. All that is of the sample goes:

* `signals/`: in the samples table uid and key become a stand-in that is made of part and row alone,
  caption, url and places become null, `failure` is `removed`; of every measure the row is null;
* `embeddings/`: the row is NaN;
* `relations/`: the row is null. Where another row names the sample (`duplicate_of`), it names the
  stand-in from then on: null would say "no copy", and bring the copy back with the next decision;
* `ledger/`: the verdict is `failed`, all else null; the manifest is counted anew. Others' verdicts stay;
* `curated/`: tars that hold the sample are written without its members, all others byte for byte as
  they were; `layout.json` says how many each tar lacks, so that a lost one is written right;
* `subsets/`: without the uid; `failures/`: the code `removed` at the stand-in's place;
* `artefacts/`: without the sample where they list samples (reference sets). Sums over many samples
  (centroids, thresholds, histograms) are no longer anyone's and stay;
* `report/`, `audit/`, `index/`: what may show the sample is deleted, and made again by its command.

**What stays out.** `removed/marks.parquet` holds keyed hashes of the uids, URLs and image bytes of the
samples that were named. Whoever reads a shard asks it (`Marks`), so a sample that is crawled again,
into whatever shard, becomes a row with the failure `removed`. The key lies in `removed/key.json`: the
hashes keep the list from telling what was removed to people who see the list, not to those who have
the store and a guess.

**How it is done.** `removed/<time>-<n>.json` is written first: who, why, the places (part and row), the
marks, and each file that will change with its checksum. Then the marks count, then every file but the
samples tables is rewritten, each by one commit; last the samples tables, which until then say whose
uids are meant. Every rewrite gives the same bytes when done again, so `finish_removals` simply goes
on from what the record says. It is called by whoever locks the store to write. Fingerprints, and so
the names of decisions, do not change.
"""

from transforms.removal.marks import Marks
from transforms.removal.perform import Removal, finish_removals, remove

__all__ = ["Marks", "Removal", "finish_removals", "remove"]
