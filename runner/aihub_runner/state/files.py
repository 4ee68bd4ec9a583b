"""Recorded facts about local files: the stat cache, and what the service refused."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from aihub_runner.model import CachedDigest, CacheRow
from aihub_runner.state.database import Database, fits_column


class Files(Database):
    """The tables of scanned and refused files."""

    def load_cache(self) -> Iterator[CacheRow]:
        """Load the stat cache, in the order of paths."""
        sql = "SELECT path, digest, scanned_ns, size, mtime_ns, ctime_ns, inode FROM scanned ORDER BY path"
        return self.each_tuple(sql)

    def record_cache(self, news: Mapping[str, CachedDigest], outdated: Iterable[str] = ()) -> None:
        """Change the stat cache. A file whose numbers no column can hold is hashed each time."""
        outdated = [*outdated]
        if not news and not outdated:
            return
        rows = (
            (path, c.stat.size, c.stat.mtime_ns, c.stat.ctime_ns, c.stat.inode, c.digest, c.scanned_ns)
            for path, c in news.items()
        )
        with self.transaction():
            self.write_all("DELETE FROM scanned WHERE path = ?", ((path,) for path in outdated))
            self.write_all(
                "INSERT OR REPLACE INTO scanned VALUES (?, ?, ?, ?, ?, ?, ?)",
                (row for row in rows if all(map(fits_column, row))),
            )

    def record_refused(self, path: str, identity: str, detail: str) -> None:
        """Record that the service refused a file as it is."""
        self.write("INSERT OR REPLACE INTO refused_files VALUES (?, ?, ?)", path, identity, detail)

    def forget_refused(self) -> None:
        """Forget refused files, so that they are tried again."""
        self.write("DELETE FROM refused_files")

    def load_refused(self) -> dict[tuple[str, str], str]:
        """Return the (path, identity) of refused files, with the service's reason."""
        rows = self.read("SELECT * FROM refused_files")
        return {(row["path"], row["identity"]): row["detail"] for row in rows}
