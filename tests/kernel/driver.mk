# Builds a C++ program with CmdStan's own compiler, flags and libraries. Run in CmdStan's folder:
#   make -f driver.mk PROGRAM=program SOURCE=source.cpp INCLUDES="-Ifolder ..." program
include makefile

$(PROGRAM): $(SOURCE) $(TBB_TARGETS) $(PRECOMPILED_MODEL_HEADER)
	$(COMPILE.cpp) $(INCLUDES) -o $@.o $(SOURCE)
	$(LINK.cpp) $@.o $(LDLIBS) $(TBB_TARGETS) -o $@
