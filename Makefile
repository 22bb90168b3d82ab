.DEFAULT_GOAL := help
export CGO_ENABLED = 0

PROGRAMS = sedge sedge-agent
BUILD    = go build -trimpath -ldflags='-s -w'
DEPS     = cmd/e2e/deps.sh
BROKER   = mosquitto mosquitto_pub

# Where the unit suites run that are emulated: packages that start neither
# brokers nor workers.
UNITS = ./devices ./devices/broker ./devices/sim ./functions ./functions/runner/... \
        ./edge ./edge/sqlite ./edge/ledger ./edge/client ./edge/hub ./agent/store ./agent

# How often make chaos kills, and how long make fuzz tries each target.
CYCLES   ?= 200
FUZZTIME ?= 30s

.PHONY: help
help: ## Show what can be made.
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build the programs for this machine into bin.
	$(BUILD) -o bin/ $(PROGRAMS:%=./cmd/%)

.PHONY: demo
demo: build ## Show a simulated home react to a function; Ctrl-C ends it.
	bin/sedge demo

.PHONY: test
test: ## Install what the tests need and run them all.
	$(DEPS) $(BROKER)
	go test -timeout 10m ./...

.PHONY: test-race
test-race: ## Run all tests with the race detector.
	$(DEPS) $(BROKER) gcc
	CGO_ENABLED=1 go test -race -timeout 30m ./...

.PHONY: test-arm test-arm64 test-armv6
test-arm: test-arm64 test-armv6 ## Run the unit suites for both ARMs, emulated.
test-arm64: ## Run the unit suites for arm64, emulated.
	$(DEPS) qemu-aarch64-static
	GOARCH=arm64 go test -exec qemu-aarch64-static -short -timeout 20m $(UNITS)
test-armv6: ## Run the unit suites for arm/v6, emulated.
	$(DEPS) qemu-arm-static
	GOARCH=arm GOARM=6 go test -exec qemu-arm-static -short -timeout 20m $(UNITS)

.PHONY: chaos
chaos: ## Kill the node and the broker under load, CYCLES times each.
	$(DEPS) $(BROKER)
	go test -count=1 -v -timeout 60m -run '^TestChaos' ./cmd/e2e -cycles=$(CYCLES)

.PHONY: bench
bench: build cross ## Measure against a bare echo and write BENCHMARKS.md.
	$(DEPS) $(BROKER)
	$(BUILD) -o bin/ ./cmd/e2e/bench
	bin/bench

.PHONY: fuzz
fuzz: ## Run each fuzz target for FUZZTIME.
	@for pkg in $$(go list ./...); do \
		for target in $$(go test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
			echo "$$pkg $$target"; \
			go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$pkg || exit 1; \
		done; \
	done

.PHONY: lint
lint: ## Check format, vet, staticcheck and the shell scripts.
	$(DEPS) shellcheck
	@unformatted=$$(gofmt -l .) && if [ -n "$$unformatted" ]; then echo "gofmt: $$unformatted"; exit 1; fi
	go vet ./...
	go tool staticcheck ./...
	shellcheck .ci/run $(DEPS)

.PHONY: vuln
vuln: ## Look for known vulnerabilities; needs the Internet.
	go tool govulncheck ./...

.PHONY: cross
cross: cross-amd64 cross-arm64 cross-armv7 cross-armv6 ## Build for every board into dist and check the sizes.
	@cd dist && for f in *; do printf '%6.1f MB  %s\n' $$(stat -c %s $$f)e-6 $$f; done
	@size=$$(stat -c %s dist/sedge-agent-linux-arm64); if [ $$size -gt 34000000 ]; then \
		echo "sedge-agent for arm64 is over its budget of 34 MB"; exit 1; fi

cross-amd64: target = GOARCH=amd64
cross-arm64: target = GOARCH=arm64
cross-armv7: target = GOARCH=arm GOARM=7
cross-armv6: target = GOARCH=arm GOARM=6
cross-%:
	@mkdir -p dist
	@for program in $(PROGRAMS); do \
		GOOS=linux $(target) $(BUILD) -o dist/$$program-linux-$* ./cmd/$$program || exit 1; \
	done

.PHONY: images
images: cross-amd64 cross-arm64 cross-armv7 ## Pack the agent for k3s, as archives of images in dist.
	go run ./cmd/images dist

.PHONY: clean
clean: ## Remove what was built.
	rm -rf bin dist
