"""What a run needs, told before anything is fetched or loaded: packages, licences, disk, memory, time, servers."""
