# The few entry points. CI calls the same ones.

CARGO ?= cargo
GUEST_TARGET := wasm32-wasip1
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
GUESTS := $(TARGET_DIR)/$(GUEST_TARGET)/guest
SMALL := hello hello-command echo wasi-std
MODELS := classify filetype runner
SMALL_SAMPLES := hello hello-command echo
MODEL_SAMPLES := classify filetype
# `release` is for running here; `dist` links slower and answers 7 % faster: for what is handed on, and for figures.
PROFILE ?= release
# With DEBUG=1, as CI says, the binary that `make test` has made already: a release build takes minutes.
MAYFLY := $(TARGET_DIR)/$(if $(DEBUG),debug,$(PROFILE))/mayfly
STATE ?= state

.PHONY: help run small-guests model-guests script-guest build dist guests toolchain test fmt lint docs-check unit deny clean-state \
	bench bench-quick bench-full bench-models bench-peers bench-bin

help: ## What there is to make
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | column -t -s '	'

run: small-guests build ## Start the gateway with the sample functions deployed; the models follow as they are built
	@echo "Once it says that it is ready, try:"
	@echo "  curl http://127.0.0.1:3000/hello"
	@MAKE="$(MAKE)" MAYFLY=$(MAYFLY) GUESTS=$(GUESTS) STATE=$(STATE) functions/follow.sh $(MODEL_SAMPLES) & \
	exec $(MAYFLY) serve --state-dir $(STATE) --server-timing --log-requests all \
		$(foreach f,$(SMALL_SAMPLES),--deploy $(f)=$(GUESTS)/$(f).wasm)

build: ## The mayfly binary
	$(CARGO) $(if $(DEBUG),test --no-run,build --profile $(PROFILE) --bin mayfly)
	@$(if $(filter guests run test bench%,$(MAKECMDGOALS)),:,$(RUNNER_STANDS))

# The binary takes a runner of its own build only; whether the sources are the same, this looks at.
RUNNER := $(dir $(MAYFLY))runner.wasm
define RUNNER_STANDS
if ! test -e $(RUNNER); then \
	echo "note: there is no $(RUNNER), which \`mayfly deploy model.onnx\` needs: \`make guests\` builds it"; \
elif test -n "$$(find functions/runner guest-sdk -type f -newer $(RUNNER) | head -n 1)"; then \
	echo "note: $(RUNNER) is older than its sources: \`make guests\` renews it"; \
fi
endef

dist: guests ## What is handed to others, in one archive: the program (thin LTO, stripped), the runner, samples, completions
	$(CARGO) build --profile dist --bin mayfly
	runtime/dist.sh $(TARGET_DIR)/dist $(GUESTS)

guests: small-guests model-guests script-guest ## The sample functions, as .wasm

# Apart: built together, the small ones would get the features that the models ask of the SDK, and tract with them.
small-guests: toolchain
	$(CARGO) build --profile guest --target $(GUEST_TARGET) $(addprefix -p ,$(SMALL))

model-guests: toolchain
	$(CARGO) build --profile guest --target $(GUEST_TARGET) $(addprefix -p ,$(MODELS))
	# Where `mayfly deploy model.onnx` looks for it: beside the binary.
	@$(if $(filter runner,$(MODELS)),mkdir -p $(dir $(MAYFLY)) && cp $(GUESTS)/runner.wasm $(dir $(MAYFLY)))

# QuickJS is C. Without clang and wasi-libc this is said loudly and stops nothing; tests of scripts are skipped then.
script-guest: toolchain ## What `mayfly deploy app.js` packs a script into
	@mkdir -p $(dir $(MAYFLY)) && rm -f $(dir $(MAYFLY))script.wasm
	@if { $(WASI_TOOLS); } >/dev/null 2>&1; then \
		$(CARGO) build --profile guest --target $(GUEST_TARGET) -p script && cp $(GUESTS)/script.wasm $(dir $(MAYFLY)); \
	else rm -f $(GUESTS)/script.wasm; \
		echo "SKIPPED: script.wasm was not built: run make toolchain-c (Debian: $(WASI_PACKAGES))"; fi

toolchain:
	@rustup target list --installed 2>/dev/null | grep -qx $(GUEST_TARGET) || rustup target add $(GUEST_TARGET)

test: fmt guests lint docs-check deny unit ## Everything CI checks

fmt:
	$(CARGO) fmt --all --check

lint:
	$(CARGO) clippy --all-targets -- -D warnings
	$(CARGO) clippy --profile guest --target $(GUEST_TARGET) -p mayfly --all-features $(addprefix -p ,$(SMALL) $(MODELS)) -- -D warnings
	@if { $(WASI_TOOLS); } >/dev/null 2>&1; then $(CARGO) clippy --profile guest --target $(GUEST_TARGET) -p script -- -D warnings; \
	else echo "SKIPPED: functions/script was not looked at: run make toolchain-c"; fi

docs-check:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps $(addprefix -p mayfly-,bench runtime core oip observe store outbound host publish serve admin abi) -p mayfly

unit:
	$(CARGO) test
	$(CARGO) test -p mayfly

deny: ## Licences, bans and sources of every dependency
	@if command -v cargo-deny >/dev/null; then cargo deny check licenses bans sources; \
	else echo "SKIPPED: cargo-deny is not installed (cargo install cargo-deny); licences were not checked"; fi

clean-state: ## Forget every deployed function
	rm -rf $(STATE)

include functions/languages.mk
include runtime/tests/hostile.mk

BENCH := $(TARGET_DIR)/dist/mayfly-bench run --peers $(TARGET_DIR)/bench-peers --models $(TARGET_DIR)/bench-peers/models

bench-bin: guests
	$(CARGO) build --profile dist --bin mayfly -p mayfly-runtime -p mayfly-bench --bins

bench: bench-bin languages ## The core report, in about ten minutes on two cores
	$(BENCH) --size core

bench-quick: bench-bin ## One minute of it
	$(BENCH) --size quick

bench-full: bench-bin languages ## All of it: longer rounds and more of them, 1,000 functions
	$(BENCH) --size full

# Directories with the models to compare (docs/inference.md says where they come from); those that are nowhere are left
# out. ResNet-18 is made by bench-peers.
BENCH_MODELS ?= $(TARGET_DIR)/bench-peers/models

budgets: guests ## The counts of bench/budgets.toml in a release build, instructions included (not in `test`)
	$(CARGO) test --profile dist -p mayfly-bench --test budgets -- --nocapture

bench-models: bench-models-ready build ## Models in the sandbox beside native tract, ONNX Runtime and ONNX Runtime Web
	$(CARGO) build --profile guest --target $(GUEST_TARGET) -p runner
	$(CARGO) build --release -p mayfly --features onnx --example time_tract
	$(TARGET_DIR)/bench-peers/python/bin/python bench/models/compare.py --mayfly $(MAYFLY) \
		--runner $(GUESTS)/runner.wasm \
		--tract $(TARGET_DIR)/release/examples/time_tract --peers $(TARGET_DIR)/bench-peers \
		$(addprefix --models ,$(BENCH_MODELS)) $(BENCH_MODELS_OPTIONS)

.PHONY: budgets bench-models-ready
# In one line, before anything is built.
bench-models-ready:
	@test -x $(TARGET_DIR)/bench-peers/python/bin/python || \
		{ echo "bench-models: ONNX Runtime is not installed; run \`make bench-peers\` once"; exit 1; }
	@ls $(addsuffix /*.onnx,$(BENCH_MODELS)) >/dev/null 2>&1 || \
		{ echo "bench-models: no model in $(BENCH_MODELS); \`make bench-peers\` makes the ResNet-18, and docs/inference.md names the others"; exit 1; }

bench-peers: toolchain ## Install the runtimes to compare with, as far as the registries have them
	bench/peers/install.sh $(TARGET_DIR)/bench-peers
