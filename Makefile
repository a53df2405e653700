# Build, try out, test. `make help` lists the targets. Every target can be run in a fresh clone:
# tools/setup.sh looks for the tools it needs and installs them where it may.

CARGO ?= cargo
TCLSH ?= tclsh
PREFIX ?= /usr/local
CARGO_TARGET_DIR ?= target

# The database that `make demo` looks at; it makes one of its own if this is empty.
DB ?=
# Options of `make bench`; `make bench ARGS=--help` lists them.
ARGS ?=
# `make torture`: how long each piece runs, and the first seed.
SECONDS ?= 600
SEED ?= 1
# And how many streams of the write-behind layer are swept for each setting.
STREAMS ?= 10
# And how many seconds the threads of the write-behind layer disturb each other.
THREAD_SECONDS ?= 60
# And how many transactions each of four Tcl threads makes on one page cache; about a minute.
THREAD_ROUNDS ?= 9000
# Switches between threads that the model checker tries beyond those at a wait.
PREEMPTIONS ?= 2

VERSION = 1.0
LIBRARY = $(CARGO_TARGET_DIR)/release/libtclbtree.so
PACKAGE = $(DESTDIR)$(PREFIX)/lib/tcltk/tclbtree$(VERSION)

# Scripts load the library just built, wherever cargo puts it and they run.
WITH_LIBRARY = TCLBTREE_LIBRARY="$$(cd $(CARGO_TARGET_DIR)/release && pwd)/libtclbtree.so"

# The tests that go on for as long as they are told.
TORTURES = model limits keys interop recovery killed locks faults memory crash together backup shared \
    write_behind queue damage tangled

.PHONY: all demo test torture loom tsan memcheck bench bench-instructions bench-tcl docs install \
    clean help

all:
	@tools/setup.sh cargo cc
	$(CARGO) build --release

demo: all
	@tools/setup.sh tclsh sqlite3 --optional tcl-sqlite3
	@$(WITH_LIBRARY) $(TCLSH) tcl/demo.tcl $(DB)

test: all
	@tools/setup.sh tclsh sqlite3 --optional tcl-thread tcl-sqlite3 tclsh9
	$(WITH_LIBRARY) $(CARGO) test

torture: all memcheck loom tsan
	@tools/setup.sh tclsh sqlite3 --optional tcl-thread
	$(WITH_LIBRARY) TCLBTREE_ROUNDS=$(THREAD_ROUNDS) $(TCLSH) test/shared-threads.test
	WRITE_BEHIND_SECONDS=$(THREAD_SECONDS) $(CARGO) test --release --lib write_behind::tests::threads
	@for piece in $(TORTURES); do \
	    echo "torture: $$piece, $(SECONDS) seconds from seed $(SEED)"; \
	    TCLBTREE_LONG=1 TCLBTREE_STREAMS=$(STREAMS) TCLBTREE_SECONDS=$(SECONDS) TCLBTREE_SEED=$(SEED) \
	        $(CARGO) test --release --test $$piece -- --nocapture || exit 1; \
	done

loom:
	@tools/setup.sh cargo cc
	@if ! $(CARGO) fetch --locked >/dev/null 2>&1; then \
	    echo "SKIPPED loom: the model checker cannot be fetched"; \
	else \
	    RUSTFLAGS="--cfg loom" LOOM_MAX_PREEMPTIONS=$(PREEMPTIONS) $(CARGO) test --release \
	        --lib --no-default-features --target-dir "$(CARGO_TARGET_DIR)/loom" \
	        write_behind::tests::model -- --nocapture --test-threads 1; \
	fi

tsan:
	@tools/setup.sh cargo cc
	@CARGO="$(CARGO)" CARGO_TARGET_DIR="$(CARGO_TARGET_DIR)" WRITE_BEHIND_SECONDS=$(THREAD_SECONDS) tools/tsan.sh

memcheck: all
	@tools/setup.sh tclsh sqlite3 --optional valgrind
	@if ! command -v valgrind >/dev/null; then \
	    echo "SKIPPED memcheck: no valgrind"; \
	else \
	    for script in test/*.test; do \
	        echo "memcheck: $$script"; \
	        $(WITH_LIBRARY) valgrind -q --error-exitcode=9 $(TCLSH) $$script || exit 1; \
	    done; \
	fi

# Tables and charts stay in docs/.
bench:
	@tools/setup.sh cargo cc
	$(CARGO) run --release -p tclbtree-bench -- --docs docs $(ARGS)

bench-instructions:
	@tools/setup.sh cargo cc valgrind
	$(CARGO) run --release -p tclbtree-bench -- --instructions $(ARGS)

bench-tcl: all
	@tools/setup.sh tclsh --optional tcl-sqlite3
	$(WITH_LIBRARY) $(TCLSH) bench/tcl.tcl

docs: all
	@tools/setup.sh tclsh
	@$(WITH_LIBRARY) $(TCLSH) tools/commands.tcl

install: all
	mkdir -p "$(PACKAGE)"
	cp $(LIBRARY) pkgIndex.tcl "$(PACKAGE)"
	@echo "installed in $(PACKAGE)"

clean:
	$(CARGO) clean
	rm -rf demo-output

help:
	@echo "make            build the extension ($(LIBRARY))"
	@echo "make demo       a tour through a database; DB=FILE to look at one of yours"
	@echo "make test       all tests, at most 10 minutes on two cores"
	@echo "make torture    the long forms of the random tests, one after the other; memcheck, loom, tsan:"
	@echo "                SECONDS=$(SECONDS) each, from SEED=$(SEED)"
	@echo "make loom       the write-behind queue in every interleaving, PREEMPTIONS=$(PREEMPTIONS)"
	@echo "make tsan       the tests with threads under ThreadSanitizer, which takes a nightly Rust"
	@echo "make memcheck   the script tests under valgrind"
	@echo "make bench      speed beside SQLite's own b-tree, LMDB, redb and SQL, as tables and charts in"
	@echo "                docs/; ARGS=--help for its options"
	@echo "make bench-instructions  instructions per operation, under valgrind"
	@echo "make bench-tcl  the commands beside those of the sqlite3 package, from Tcl"
	@echo "make docs       write docs/commands.md anew from the table of commands"
	@echo "make install    install the Tcl package below PREFIX=$(PREFIX)"
	@echo "make clean      remove what was built"
