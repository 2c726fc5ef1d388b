"""MLflow and PostgreSQL on the head of a cluster; nothing here knows about studies."""
