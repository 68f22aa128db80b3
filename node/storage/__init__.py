"""What survives a power cut: the inbox of received instances and the table of jobs."""
