"""What is known of users besides what they opened: the paper's <user info if provided> (Figures 4 and 7)."""

import csv
from pathlib import Path


def read_user_info(path: Path) -> dict[str, str]:
    """Info by user, of a CSV with user_id and info; FileNotFoundError or ValueError where it is none."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            if not {"user_id", "info"} <= set(rows.fieldnames or ()):
                raise ValueError(f"{path} has the columns {rows.fieldnames}; expected user_id, info")
            return {row["user_id"].strip(): (row["info"] or "").strip() for row in rows if row["user_id"]}
    except FileNotFoundError:
        raise FileNotFoundError(f"user info {path} does not exist; give a CSV with user_id, info") from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read as CSV: {error}; save it as CSV in UTF-8") from error
