# syntax=docker/dockerfile:1
# Any Debian 12 with Rust works as the builder; override to build without a registry.
ARG BUILDER=docker.io/library/rust:1.95-bookworm
ARG RUNTIME=docker.io/library/debian:12-slim

FROM ${BUILDER} AS build
# For the script runner, which has QuickJS in it.
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends clang lld llvm wasi-libc libclang-rt-dev-wasm32 \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY Cargo.toml Cargo.lock rust-toolchain.toml Makefile README.md LICENSE CHANGELOG.md ./
COPY .cargo .cargo
COPY runtime runtime
COPY guest-sdk guest-sdk
COPY functions functions
COPY bench bench
COPY docs docs
# Registry and target directory stay between builds: only what changed is compiled again.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    rm -rf target/dist/mayfly-*-linux && make dist && mkdir -p /out/state && cp -r target/dist/mayfly-*-linux /out/mayfly

FROM ${RUNTIME}
# A fixed number, so that a volume keeps its owner.
RUN groupadd --gid 65532 mayfly && useradd --uid 65532 --gid 65532 --no-create-home --shell /usr/sbin/nologin mayfly
COPY --from=build /out/mayfly /usr
COPY --from=build --chown=65532:65532 /out/state /var/lib/mayfly
USER 65532:65532
VOLUME /var/lib/mayfly
ENV MAYFLY_STATE_DIR=/var/lib/mayfly
EXPOSE 3000
# The admin listener stays on the container's loopback: `docker exec ... mayfly deploy` reaches it.
HEALTHCHECK --interval=10s --timeout=2s --start-period=60s CMD ["mayfly", "health"]
ENTRYPOINT ["mayfly"]
CMD ["serve", "--gateway-listen", "0.0.0.0:3000", \
     "--deploy", "hello=/usr/share/mayfly/functions/hello.wasm", \
     "--deploy", "hello-command=/usr/share/mayfly/functions/hello-command.wasm", \
     "--deploy", "echo=/usr/share/mayfly/functions/echo.wasm", \
     "--deploy", "classify=/usr/share/mayfly/functions/classify.wasm", \
     "--deploy", "filetype=/usr/share/mayfly/functions/filetype.wasm"]
