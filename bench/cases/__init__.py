"""The cases. A file ``tNN_question.py`` that makes a `bench.harness.Case` is all it takes to add one."""
