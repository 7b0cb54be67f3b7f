"""The Celery face: names tasks, parses ids, runs one service call on the process's loop. No rules, no queries."""
