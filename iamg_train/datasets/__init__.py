"""Published datasets as a folder that this project reads: metadata.jsonl, images/, interactions.csv, report.json."""
