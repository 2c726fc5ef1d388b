"""MLflow and PostgreSQL on the head of a cluster; nothing here knows of studies.

__main__   `python -m study.head`: starts and stops them, stops an idle machine
services   both of them: started and stopped
postgres   a PostgreSQL of its own
processes  whether a service runs, and what listens on a port
idle       whether Ray has had nothing to do for a while
"""
