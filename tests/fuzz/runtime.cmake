# The readers of runtime/.
moraine_fuzzer(trace SOURCES trace_fuzz.cc LINKS moraine_trace)
