"""What a job is: the states, the tables, the queries, the bell and the settings that API and worker share."""
