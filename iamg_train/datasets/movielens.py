"""MovieLens: ml-latest(-small), ml-25m and newer (.csv), and ml-1m (.dat)."""

import re
from argparse import Namespace
from collections import Counter, defaultdict
from collections.abc import Container, Iterator
from pathlib import Path

from iamg.pictures import resolve_inside
from iamg.prompt_text import clean_text
from iamg_train.datasets.dataset import CatalogueItem, Event
from iamg_train.datasets.findings import Findings
from iamg_train.datasets.importing import import_dataset
from iamg_train.datasets.picture_sources import pictures_by_stem, read_addresses
from iamg_train.datasets.tables import Row, csv_rows, find_table, split_rows

RATING_COLUMNS = ("userId", "movieId", "rating", "timestamp")
MOVIE_COLUMNS = ("movieId", "title", "genres")
NO_GENRES = "(no genres listed)"

USER_TAGS = 12  # of a film, the most frequent ones
LONGEST_TAG = 60  # characters; what is longer is a sentence
NOT_ABOUT_THE_FILM = frozenset({"in netflix queue"})

YEAR = re.compile(r"\s*\(\d{4}(?:\s*[-–]\s*(?:\d{4})?)?\)\s*$")
ARTICLE_LAST = re.compile(
    r"^(?P<before>\s*)(?P<rest>.*\S), "
    r"(?P<article>The|An?|L'|L[aeo]s?|Une?|Una|Il|Gli|El|Der|Die|Das|Eine?|Het|Det|Den)(?P<after>\s*)$"
)


def run(arguments: Namespace) -> int:
    return import_dataset(MovieLens(arguments), arguments)


class MovieLens:
    """T_i is the genres and the most frequent user tags; ratings stay ratings."""

    def __init__(self, arguments: Namespace):
        self.pictures = arguments.pictures
        self._source: Path = arguments.source
        self._names = arguments.pictures_by
        self._addresses: Path | None = arguments.image_urls
        self._ratings = find_table(self._source, "ratings.csv", "ratings.dat")
        self._movies = find_table(self._source, self._ratings.with_name(f"movies{self._ratings.suffix}").name)

    def items(self, findings: Findings) -> Iterator[CatalogueItem]:
        files, addresses = pictures_by_stem(self.pictures), read_addresses(self._addresses, findings)
        tags = self._user_tags(findings)
        names = {} if self._names == "movie" else self._other_names(findings)
        for line, (movie_id, title, genres) in _rows(self._movies, MOVIE_COLUMNS, findings):
            movie_id = movie_id.strip()
            tried = (movie_id,) if self._names == "movie" else names.get(movie_id, ())
            yield CatalogueItem(
                place=f"{self._movies.name}, line {line}",
                item_id=movie_id,
                title=readable_title(title),
                text=_description(genres, tags.get(movie_id, ())),
                tags=tags.get(movie_id, ()),
                picture=next((files[name] for name in tried if name in files), ""),
                image_url=addresses.get(movie_id, ""),
            )

    def users(self, findings: Findings) -> Iterator[str]:
        return (cells[0] for _, cells in _rows(self._ratings, RATING_COLUMNS, findings))

    def events(self, users: Container[str] | None, findings: Findings) -> Iterator[Event]:
        for line, cells in _rows(self._ratings, RATING_COLUMNS, findings):
            if users is None or cells[0] in users:
                yield Event(line, *cells)

    def _user_tags(self, findings: Findings) -> dict[str, tuple[str, ...]]:
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        path = resolve_inside(self._source, "tags.csv")
        for _, (movie_id, tag) in csv_rows(path, ("movieId", "tag"), findings) if path.is_file() else ():
            tag = clean_text(tag).casefold()
            if tag and len(tag) <= LONGEST_TAG and tag not in NOT_ABOUT_THE_FILM:
                counts[movie_id.strip()][tag] += 1
        return {
            movie_id: tuple(sorted(found, key=lambda tag: (-found[tag], tag))[:USER_TAGS])
            for movie_id, found in counts.items()
        }

    def _other_names(self, findings: Findings) -> dict[str, tuple[str, ...]]:
        """What posters are called by the films' ids at IMDb ("tt0114709", "0114709", "114709") or TMDB."""
        column, path = f"{self._names}Id", find_table(self._source, "links.csv")
        rows = ((movie.strip(), name.strip()) for _, (movie, name) in csv_rows(path, ("movieId", column), findings))
        if self._names == "tmdb":
            return {movie: (name,) for movie, name in rows}
        return {movie: (f"tt{name}", name, name.lstrip("0")) for movie, name in rows}


def readable_title(published: str) -> str:
    """A title without its year, its article in front: "Fugitive, The (1993)" is The Fugitive.

    Another title in parentheses stays, its article in front too.
    """
    return re.sub(r"[^()]+", lambda part: ARTICLE_LAST.sub(_article_first, part[0]), YEAR.sub("", published)).strip()


def _article_first(match: re.Match) -> str:
    article = match["article"]
    space = "" if article.endswith("'") else " "
    return f"{match['before']}{article}{space}{match['rest']}{match['after']}"


def _description(genres: str, tags: tuple[str, ...]) -> str:
    listed = {"Genres": [name for name in genres.strip().split("|") if name not in ("", NO_GENRES)], "User tags": tags}
    return " ".join(f"{label}: {', '.join(names)}." for label, names in listed.items() if names)


def _rows(path: Path, columns: tuple[str, ...], findings: Findings) -> Iterator[Row]:
    if path.suffix == ".csv":
        return csv_rows(path, columns, findings)
    return split_rows(path, "::", len(columns), findings, encoding="latin-1")
