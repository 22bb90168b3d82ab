.DEFAULT_GOAL := help
export CGO_ENABLED = 0

PROGRAMS = sedge sedge-agent sedge-hub
# The version of a release, like v1.4.0; what git says without it.
VERSION  =
BUILD    = go build -trimpath -ldflags='-s -w$(if $(VERSION), -X github.com/sedge-iot/sedge/cmd/settings.stamp=$(VERSION))'
DEPS     = cmd/e2e/deps.sh
BROKER   = mosquitto mosquitto_pub
DATABASE = postgres

# Where the unit suites run that are emulated: packages that start neither
# brokers, databases nor workers.
UNITS = ./devices ./devices/broker ./devices/sim ./functions ./functions/runner ./functions/runner/javascript \
        ./edge ./edge/sqlite ./edge/keys ./edge/link ./edge/selector ./edge/rollout ./edge/ledger ./edge/fleet \
        ./edge/client ./edge/hub ./edge/member ./agent/store ./agent

# The Kubernetes for tests, a module of its own: its parts that are quickly built
# (the other one, ./kubernetes, takes minutes even to vet), and the packages of
# sedge whose tests are to run within it, with the tag cluster.
CLUSTER        = cmd/e2e/cluster
CLUSTER_PARTS  = . ./node ./pause ./testapp
CLUSTER_SUITES = ./functions/pod ./edge/cluster ./installer/k3s

# How many nodes make bench-hub simulates.
NODES ?= 10000

# How often make chaos kills, and how long make fuzz tries each target.
CYCLES   ?= 200
FUZZTIME ?= 30s

.PHONY: help
help: ## Show what can be made.
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build the programs for this machine into bin.
	$(BUILD) -o bin/ $(PROGRAMS:%=./cmd/%)

.PHONY: demo
demo: build ## Show a simulated home react to a function; Ctrl-C ends it.
	bin/sedge demo

.PHONY: test
test: ## Install what the tests need and run them all.
	$(DEPS) $(BROKER) $(DATABASE) strace minisign
	go test -timeout 10m ./...

.PHONY: test-race
test-race: ## Run all tests with the race detector.
	$(DEPS) $(BROKER) $(DATABASE) strace minisign gcc
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
chaos: ## Kill the node, the broker, an agent at work, an upgrade, and a hub with its nodes, CYCLES times each, and a cluster's holder.
	$(DEPS) $(BROKER) strace
	go test -count=1 -v -timeout 60m -run '^TestChaos' ./agent -kills=$(CYCLES)
	go test -count=1 -v -parallel 1 -timeout 60m -run '^TestChaos|^TestACluster' ./cmd/e2e -cycles=$(CYCLES) -events=10000
	go test -count=1 -v -parallel 1 -timeout 60m -run '^TestFleet' ./cmd/e2e -powercuts=$(CYCLES) -nodes=20 -storms=10
	go test -count=1 -v -timeout 30m -run '^TestChaos' ./installer/upgrade -cycles=$(CYCLES)

.PHONY: cluster
cluster: bin/kubernetes ## Build the Kubernetes for tests; the first time takes ten minutes.
	go -C $(CLUSTER) build -trimpath -ldflags='-s -w' -o $(CURDIR)/bin/ . ./pause ./testapp
	bin/cluster deps

# SQLite needs C there. Without the link flags it would call itself v0.0.0.
bin/kubernetes: $(CLUSTER)/go.sum $(wildcard $(CLUSTER)/kubernetes/*.go)
	$(DEPS) gcc
	version=$$(awk '$$1 == "k8s.io/kubernetes" { print $$2 }' $(CLUSTER)/go.mod) && \
	flags="-s -w" && \
	for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do \
		flags="$$flags -X $$package.gitVersion=$$version -X $$package.gitMajor=1 -X $$package.gitMinor=$$(echo $$version | cut -d. -f2)"; \
	done && \
	CGO_ENABLED=1 go -C $(CLUSTER) build -trimpath -gcflags=all=-dwarf=false -ldflags "$$flags" -o $(CURDIR)/bin/kubernetes ./kubernetes

.PHONY: test-cluster
test-cluster: cluster ## Run the tests that need a Kubernetes.
	go -C $(CLUSTER) test -count=1 -timeout 10m $(CLUSTER_PARTS)
	bin/cluster image localhost/testapp:1 bin/testapp.tar bin/testapp
	trap 'bin/cluster down suites' EXIT && bin/cluster up suites --image bin/testapp.tar && \
	go test -count=1 -p 1 -timeout 20m -tags cluster -exec '$(CURDIR)/bin/cluster exec suites --' $(CLUSTER_SUITES)
	$(DEPS) $(BROKER)
	go test -count=1 -v -timeout 30m -tags cluster -run '^TestCluster' ./cmd/e2e

.PHONY: bench-cluster
bench-cluster: cluster ## Measure pods beside bare ones and write it into BENCHMARKS.md.
	$(DEPS) $(BROKER)
	go test -count=1 -v -timeout 30m -tags cluster -run '^TestClusterAFirstEvent' ./cmd/e2e -record $(CURDIR)/BENCHMARKS.md

.PHONY: bench
bench: build cross ## Measure against a bare echo and write BENCHMARKS.md.
	$(DEPS) $(BROKER)
	$(BUILD) -o bin/ ./cmd/e2e/bench
	bin/bench

.PHONY: bench-hub
bench-hub: ## Measure a hub with NODES simulated nodes and write it into BENCHMARKS.md.
	$(BUILD) -o bin/ ./cmd/e2e/bench ./cmd/sedge-hub ./cmd/sedge-agent
	bin/bench -only hub -nodes $(NODES)

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
	go vet -tags cluster ./...
	go tool staticcheck -tags cluster ./...
	go -C $(CLUSTER) vet $(CLUSTER_PARTS)
	staticcheck=$$(go tool -n staticcheck) && cd $(CLUSTER) && "$$staticcheck" $(CLUSTER_PARTS)
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

.PHONY: manifests
manifests: ## Write the manifests for k3s into dist.
	@mkdir -p dist
	cp installer/k3s/sedge.yaml installer/k3s/sample.yaml dist/
	go run ./installer/k3s/helmchart > dist/sedge-helmchart.yaml

.PHONY: images
images: cross-amd64 cross-arm64 cross-armv7 ## Pack the agent for k3s, as archives of images in dist.
	go run ./cmd/images dist

.PHONY: clean
clean: ## Remove what was built.
	rm -rf bin dist
