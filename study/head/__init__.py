"""MLflow and PostgreSQL on the head of a cluster; nothing here knows about studies.

__main__   `python -m study.head`: start and stop both, shut down an idle machine
services   start and stop both services
postgres   a separate PostgreSQL server
processes  check running services and ports
idle       wait until Ray has been idle for a while
"""
