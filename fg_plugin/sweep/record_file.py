"""The records of a sweep on disk, so that an interrupted sweep can go on."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fg_plugin.sweep.record import Record

# Records of other versions would mix with those of the installed ones.
VERSIONS = ('python', 'torch', 'timm')


class RecordFile:
    """A file of JSON lines: the environment, then one record a line. A later record replaces an earlier one.

    Args:
        path: The file; it and its folder are created with the first record.
        environment: What new records depend on besides the code, see ``fg_plugin.benchmark.environment``. Where the
            file exists already, the attribute ``environment`` is that of its first record.

    Raises:
        ValueError: If the file holds records of other versions, or anything else.
    """

    def __init__(self, path: Path, environment: Mapping[str, Any]) -> None:
        self.path = path
        self.environment = dict(environment)
        self.records: dict[str, Record] = {}
        if path.exists():
            self._read()

    def add(self, record: Record) -> None:
        """Keep ``record``, on disk too."""
        self.records[record.architecture] = record
        line = json.dumps(record._asdict())
        self.path.parent.mkdir(parents=True, exist_ok=True)
        is_new = not self.path.exists()
        with self.path.open('a') as file:
            if is_new:
                file.write(json.dumps({'environment': self.environment}) + '\n')
            file.write(line + '\n')

    def _read(self) -> None:
        content = self.path.read_text()
        *lines, unfinished = content.split('\n')
        if unfinished:
            # The line that was being written when the sweep was interrupted.
            self.path.write_text(''.join(f'{line}\n' for line in lines))
        if not lines:
            self.path.unlink()
            return
        try:
            found, *rows = (json.loads(line) for line in lines)
            self._check_versions(found['environment'])
            self.environment = found['environment']
            self.records = {row['architecture']: Record(**row) for row in rows}
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(
                f'{self.path} should hold the records of a sweep, but cannot be read: {type(error).__name__}: {error}. '
                f'Delete it to start anew.'
            ) from error

    def _check_versions(self, found: Mapping[str, Any]) -> None:
        for name in VERSIONS:
            if found[name] != self.environment[name]:
                raise ValueError(
                    f'{self.path} should hold records of {name} {self.environment[name]}, but they are of '
                    f'{found[name]}. Delete it to start anew, or give another --work-dir.'
                )
