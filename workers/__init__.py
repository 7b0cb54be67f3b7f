"""The Celery face: names tasks, parses their ids, runs one service call on the process's own loop. No rules, no queries."""
