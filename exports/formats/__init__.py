"""One file a format. Each has `write(job, options) -> list[FileEntry]`; `run.FORMATS` names them."""
