"""The engine: models, queues, batches and executors. It knows no HTTP."""
