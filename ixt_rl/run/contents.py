"""Hashes of what a run reads; see `ixt_rl.contents`, which jobs on corpora use as well."""

from ixt_rl.contents import Hashes, files_of, folder_files, imports_of

__all__ = ["Hashes", "files_of", "folder_files", "imports_of"]
