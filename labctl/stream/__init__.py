"""The way of a document from a run to the store: outbox, MQTT, recorder."""
