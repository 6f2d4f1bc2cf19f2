# The reader of policies/.
moraine_fuzzer(policies_file SOURCES policies_file_fuzz.cc LINKS moraine_policies)
