"""Record the spans that instrumented agents leave, for the tests of golden paths.

Real packages with a scripted model; not in the project's environment, since they are many and do not agree on versions:

    python3.12 -m venv traces && traces/bin/pip install -r tools/record_traces/requirements.txt
    traces/bin/python -m tools.record_traces.record tools/record_traces/requirements.txt

and the same with `requirements-openai2.txt`. What is recorded is in tests/support/traces: for each agent a file a run, with
the user's question, the answer that the agent returned, and the spans as an OTLP export request in protobuf's JSON.
"""
