"""What Kafka Connect says, in few words and without secrets."""

from __future__ import annotations

from tailrace.source.connect import masked, parse_status, summary, without_secrets

TRACE = """org.apache.kafka.connect.errors.ConnectException: An exception occurred in the change event producer.
\tat io.debezium.pipeline.ErrorHandler.setProducerThrowable(ErrorHandler.java:52)
Caused by: io.debezium.DebeziumException: Failed to start replication stream at LSN{0/1A2B3C}
\tat io.debezium.connector.postgresql.connection.PostgresReplicationConnection.startStreaming(X.java:1)
\t... 5 more
Caused by: org.postgresql.util.PSQLException: ERROR: publication "shop" does not exist, password=hunter2
\tat org.postgresql.core.v3.QueryExecutorImpl.receiveErrorResponse(QueryExecutorImpl.java:2713)
"""


def test_a_trace_is_summed_up_to_its_causes_the_last_one_first() -> None:
    said = summary(TRACE)
    assert said.startswith('org.postgresql.util.PSQLException: ERROR: publication "shop" does not exist')
    assert "Failed to start replication stream" in said
    assert "\tat" not in said
    assert "hunter2" not in said


def test_a_trace_without_causes_is_its_first_line() -> None:
    assert summary("java.lang.Error: no\n\tat x") == "java.lang.Error: no"


def test_a_status_runs_only_with_a_task_and_fails_with_any() -> None:
    answer = {"connector": {"state": "RUNNING"}, "tasks": [{"state": "FAILED", "trace": TRACE}]}
    status = parse_status(answer)
    assert (status.failed, status.running) == (True, False)
    assert status.trace.startswith("org.postgresql")
    assert not parse_status({"connector": {"state": "RUNNING"}, "tasks": []}).running
    assert parse_status({"connector": {"state": "RUNNING"}, "tasks": [{"state": "RUNNING"}]}).running


def test_secrets_are_masked_in_settings_and_in_text() -> None:
    assert masked("database.password", "hunter2") == "***"
    assert masked("database.password", "${env:PASSWORD}") == "${env:PASSWORD}"
    assert masked("database.user", "tailrace") == "tailrace"
    assert without_secrets("postgresql://u:hunter2@h/db") == "postgresql://u:***@h/db"
