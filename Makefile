# What people and CI run. Cargo's own settings (CARGO_TARGET_DIR, CARGO_BUILD_JOBS) are honoured throughout.

.POSIX:
.SUFFIXES:
.PHONY: help demo demo-guide demo-vllm test test-k8s test-extra check bench soak fuzz image sbom

help:
	@echo 'make demo        build, then show epp at work behind a real Envoy'
	@echo 'make demo-guide  a guide of Envoy AI Gateway on this machine: two pools, a plain backend, limits of tokens'
	@echo 'make demo-vllm   the same with two real vLLM servers: Python 3.11, 10 GB of disk, 3.2 GB to download'
	@echo 'make test        all tests; needs Rust and an Envoy (fetched on first use)'
	@echo 'make test-k8s    the tests with a Kubernetes API alone: a real one if KUBEBUILDER_ASSETS is set, else a double'
	@echo 'make test-extra  the image without a container engine; chart, metrics page, OpenAI client, schema; some minutes'
	@echo 'make check       formatting, lints, documentation'
	@echo 'make bench       benchmarks; some minutes'
	@echo 'make soak        epp at full load for SECONDS=600: is its memory flat, is everything given back'
	@echo 'make fuzz        each fuzz target for SECONDS=60; or TARGET=name alone, or its one INPUT=file'
	@echo 'make image       the container image IMAGE=epp:dev, by docker, podman or buildah; or PLATFORM=linux/arm64'
	@echo 'make sbom        what the binary is made of, as CycloneDX: target/epp.cdx.json'

demo:
	@sh tools/preflight.sh
	cargo build
	python3 demo/demo.py

demo-guide:
	@sh tools/preflight.sh
	cargo build
	python3 demo/demo_guide.py

demo-vllm:
	@sh tools/preflight.sh
	python3 demo/demo_vllm.py --install
	cargo build
	python3 demo/demo_vllm.py

# The last line: that the yardstick still works. What it says of a debug build means nothing.
test:
	@sh tools/preflight.sh
	ENVOY="$$(python3 tools/envoy.py)" && export ENVOY && cargo test --workspace
	cargo test -p epp --bench ext_proc -- --rounds 1 --seconds 1 --pods 8 --rows 'small request,streamed chunk'

# Part of `test`; alone it says whom it ran against. Every module of tests/it that needs the API is named kube_….
test-k8s:
	@sh tools/preflight.sh
	@ENVOY="$$(python3 tools/envoy.py)" && export ENVOY && cargo test -p epp --test it kube_; status=$$?; \
	if [ -n "$${KUBEBUILDER_ASSETS:-}" ]; then \
		echo "Kubernetes API: kube-apiserver and etcd of $$KUBEBUILDER_ASSETS; without KUBEBUILDER_ASSETS, a double"; \
	else \
		echo 'Kubernetes API: a double; for a real one: KUBEBUILDER_ASSETS="$$(setup-envtest use -p path)" make test-k8s'; \
	fi; exit $$status

test-extra:
	@sh tools/preflight.sh
	python3 tools/image_checks.py
	python3 tools/chart_checks.py
	python3 tools/metrics_checks.py
	python3 tools/openai_checks.py
	python3 tools/schema_checks.py

check:
	@sh tools/preflight.sh rustfmt clippy
	cargo fmt --all --check
	cargo fmt --manifest-path fuzz/Cargo.toml --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps

bench:
	@sh tools/preflight.sh
	cargo bench --workspace --bench '*'

# As asked for; otherwise each target has a length of its own.
SECONDS =
TARGET =
INPUT =

soak:
	@sh tools/preflight.sh
	seconds='$(SECONDS)'; cargo bench -p epp --bench ext_proc -- soak --seconds "$${seconds:-600}"

fuzz:
	@sh tools/preflight.sh c++
	@seconds='$(SECONDS)'; sh tools/fuzz.sh "$${seconds:-60}" '$(TARGET)' '$(INPUT)'

IMAGE = epp:dev
PLATFORM =

image:
	@sh tools/image.sh '$(IMAGE)' '$(PLATFORM)'

sbom:
	@cargo cyclonedx --version >/dev/null 2>&1 || \
		{ echo 'missing: cargo-cyclonedx'; echo '    cargo install --locked cargo-cyclonedx'; exit 1; } >&2
	cargo cyclonedx --format json --no-build-deps --override-filename epp.cdx
	# The tool writes one for each of our packages, and where they lie on this machine.
	rm plugins/epp.cdx.json plugins/framework/epp.cdx.json fuzz/targets/epp.cdx.json
	@mkdir -p target
	sed "s|file://$$PWD|file://|g" epp.cdx.json >target/epp.cdx.json && rm epp.cdx.json
