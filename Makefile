# GNU make. `make help` lists the targets; every one of them works from a fresh clone with Go alone unless it says more.
# What they build is in bin, dist and .cache: rm -rf bin dist .cache

SHELL       := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
FUZZTIME ?= 1m
IMAGE    ?= keyvault-csi-driver:$(VERSION)
KVRUN_IMAGE ?= kvrun:$(VERSION)
SYNC_IMAGE ?= keyvault-csi-sync:$(VERSION)
DEMO_ARGS ?=
BENCH_ARGS ?=
SANITY_ARGS ?=
SYNC_TEST_ARGS ?=

# A go.work of the surroundings must not change what is built.
export GOWORK := off

# The binaries are static, so that they run on a scratch image, and hold no path of the machine that built them.
# The version is stamped; asking git again (-buildvcs) would only fail where the clone belongs to somebody else. grpcnotrace leaves
# out gRPC's pages for debugging: their templates call methods by name, so the linker would keep each method of each type.
BUILD = CGO_ENABLED=0 go build -C $$from -tags grpcnotrace -trimpath -buildvcs=false -ldflags '-s -w -X main.version=$(VERSION)'

# FIPS=1 links Go's FIPS 140-3 module: the newest one of this Go release that has a certificate. It is for build alone, because the other
# targets use the programs in bin. kvrun has no cryptography.
ifneq ($(FIPS),)
ifneq ($(MAKECMDGOALS),build)
$(error FIPS is for make build alone; make fips-test tests what it builds)
endif
export GOFIPS140 := certified
BIN      ?= bin/fips
PROGRAMS ?= keyvault-csi-driver kvcsi keyvault-csi-sync
else
BIN      ?= bin
PROGRAMS ?= keyvault-csi-driver kvcsi kvrun keyvault-csi-sync
endif

# Modules beside the root one. Those with code of ours are in CODE too. test/sanity keeps csi-test out of the product's go.mod, and
# cmd/keyvault-csi-sync and cmd/kvcsi keep client-go out of the driver's.
MODULES = . cmd/keyvault-csi-sync cmd/kvcsi tools tools/actions tools/chart tools/chart/helm4 tools/dashboard tools/krew tools/proto tools/release tools/site \
	tools/supply test/sanity test/cluster/kubernetes test/cluster/runtimes
CODE    = . cmd/keyvault-csi-sync cmd/kvcsi tools/actions tools/dashboard tools/release tools/site tools/supply test/sanity
SCRIPTS = .ci/run test/run test/as-user test/image test/chart test/proto test/supply test/e2e/run test/e2e/record test/e2e/images \
	$(addprefix test/vm/,boot package run table) \
	tools/release/run tools/release/rehearse tools/site/build \
	$(addprefix test/cluster/,install build up node in down logs trace)

TOOLS    = $(CURDIR)/.cache/tools/$(shell go env GOVERSION)
GOLANGCI = $(TOOLS)/golangci-lint
export HELM = $(TOOLS)/helm
export HELM4 = $(TOOLS)/helm4
export HELM_DOCS = $(TOOLS)/helm-docs
HUGO     = $(TOOLS)/hugo
RELEASE  = $(HELM) $(addprefix $(TOOLS)/,go-licenses sbom cosign crane image krew validate-krew-manifest)

# $(call chosen,TARGET,VARIABLE,ALL): those of ALL that the variable names; all if it names none. Another word ends make before it
# builds a tool for TARGET.
chosen = $(if $(and $(filter $1,$(MAKECMDGOALS)),$(filter-out $3,$($2))),$(error $2 of make $1 names some of: $3))$(or $(filter $($2),$3),$3)

##@ Develop

.PHONY: help
help: ## Show this list
	@awk 'BEGIN { FS = ":.*## " } /^##@ / { printf "%s\n", substr($$0, 5) } /^[a-z0-9-]+:.*## / { printf "  %-15s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: build
build: ## Build all programs into bin, static; FIPS=1: into bin/fips, with Go's FIPS module
	@for program in $(PROGRAMS); do \
		from=.; package=./cmd/$$program; \
		if [ -e cmd/$$program/go.mod ]; then from=cmd/$$program; package=.; fi; \
		$(BUILD) -o $(abspath $(BIN))/$$program $$package; \
	done

.PHONY: demo
demo: build ## Show one volume's life on this machine: no cluster, no Azure
	@bin/kvcsi demo $(DEMO_ARGS)

# GENERATE='chart proto' makes only those. chart: the READMEs and the snapshots of the charts, deploy/. proto: the code of the provider's
# protocol, from its .proto file, which takes minutes the first time. notices: each THIRD_PARTY_NOTICES, the licenses of all that is linked.
# recording: docs/demo.svg, of a run of make demo; its programs are built after the code has been made.
PARTS = $(call chosen,generate,GENERATE,chart proto notices recording)
tools_of_chart   = helm helm-docs
tools_of_notices = go-licenses
.PHONY: generate
generate: $(addprefix $(TOOLS)/,$(foreach part,$(PARTS),$(tools_of_$(part)))) ## Write what is generated: GENERATE='chart proto notices recording', or some of these
ifneq ($(filter chart,$(PARTS)),)
	test/chart write
endif
ifneq ($(filter proto,$(PARTS)),)
	test/proto write
endif
ifneq ($(filter notices,$(PARTS)),)
	TOOLS=$(TOOLS) test/supply notices
endif
ifneq ($(filter recording,$(PARTS)),)
	@$(MAKE) -s build
	go run ./test/recording
endif

.PHONY: tidy
tidy: ## Format the code and tidy the modules
	gofmt -s -w cmd internal pkg test tools
	@for module in $(MODULES); do (cd $$module && go mod tidy); done
	@cd test/cluster/kubernetes && for other in [0-9]*.mod; do go mod tidy -modfile=$$other; done

.PHONY: verify
verify: $(HELM) $(HELM4) $(HELM_DOCS) $(TOOLS)/actions ## Check formats, modules, go vet, workflows, and that nothing is left to generate
	@$(TOOLS)/actions
	@test/chart check
	@go run -C tools/dashboard . $(CURDIR)/charts/keyvault-csi/dashboards/keyvault-csi.json
	@test/proto check
	@unformatted="$$(gofmt -s -l cmd internal pkg test tools)"; \
	if [ -n "$$unformatted" ]; then echo "not formatted (make tidy):"; echo "$$unformatted"; exit 1; fi
	@large="$$(git ls-files -z | xargs -0 stat -c '%s %n' | awk '$$1 > 1000000')"; \
	if [ -n "$$large" ]; then echo "larger than 1 MB, a built program perhaps:"; echo "$$large"; exit 1; fi
	@for module in $(MODULES); do \
		echo "verify: $$module"; \
		(cd $$module && go mod tidy -diff && go mod verify); \
	done
	@cd test/cluster/kubernetes && for other in [0-9]*.mod; do go mod tidy -diff -modfile=$$other; done
	@test/e2e/record check
	@test/vm/table check
	@for module in $(CODE); do (cd $$module && go vet ./...); done

.PHONY: lint
lint: $(GOLANGCI) ## Run the linters (the first run builds golangci-lint, which takes minutes)
	@for module in $(CODE); do \
		echo "golangci-lint: $$module"; \
		(cd $$module && $(GOLANGCI) run --config $(CURDIR)/.golangci.yml ./...); \
	done
	@if command -v shellcheck >/dev/null; then shellcheck $(SCRIPTS); \
	else echo 'shellcheck: skipped because it is not installed'; fi

##@ Test

.PHONY: test
test: build bin/csi-sanity ## Run all tests; as root many run again as an ordinary user
	@test/run

# In the strict mode too: what is left out there writes pfxProfile legacy, which the mode refuses.
.PHONY: fips-test
fips-test: ## Test the build with Go's FIPS 140-3 module, also with GODEBUG=fips140=only
	@$(MAKE) -s build FIPS=1
	@for mode in on only; do \
		echo "FIPS mode $$mode"; \
		export GOFIPS140=certified GODEBUG=fips140=$$mode KEYVAULT_CSI_BIN=$(CURDIR)/bin/fips; \
		go test -count=1 -parallel 8 ./pkg/azure ./pkg/keyvault/login ./pkg/keyvault/vault ./pkg/keyvault/values; \
		go test -count=1 -run FIPS ./pkg/keyvault/certificate; \
		go test -count=1 -parallel 8 -skip 'TestKeystore' ./test/daemon; \
		bin/fips/kvcsi demo >/dev/null; \
		echo "ok  	bin/fips/kvcsi demo"; \
	done

# The API server is that of the end-to-end tests. The first run builds it, which takes ten minutes.
.PHONY: sync-test
sync-test: build ## Test keyvault-csi-sync with a real API server (the first run builds Kubernetes)
	@RUNTIME=old test/cluster/build
	@source test/cluster/settings && KEYVAULT_CSI_BIN=$(CURDIR)/bin KEYVAULT_CSI_KUBERNETES=$$BIN \
		go -C cmd/keyvault-csi-sync test -count=1 -parallel 8 -timeout 30m ./test $(SYNC_TEST_ARGS)

# The suites that have a long form import internal/suite.
.PHONY: test-long
test-long: build ## Run the long forms of the suites, which give docs/reliability.md its figures
	@test/run long

.PHONY: fuzz
fuzz: ## Run each fuzz target for FUZZTIME (1m)
	@for package in $$(go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}' ./...); do \
		targets="$$(go test -list '^Fuzz' $$package)"; \
		for target in $$(grep '^Fuzz' <<<"$$targets" || true); do \
			echo "fuzz: $$package $$target"; \
			go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 200x $$package; \
		done; \
	done

# SANITY_ARGS are csi-sanity's: --ginkgo.v shows each spec, and why one is skipped.
.PHONY: sanity
sanity: build bin/csi-sanity ## Run csi-sanity, the conformance tests of the CSI specification
	@KEYVAULT_CSI_BIN=$(CURDIR)/bin go run -C test/sanity . $(SANITY_ARGS)

# With KUBECONFIG, E2E_DRIVER_IMAGE and E2E_TEST_IMAGE it uses that cluster; without, one of its own, of
# version KUBERNETES, on the container runtime RUNTIME: new, old or crun.
.PHONY: e2e
e2e: build ## Test on a real kubelet (root; the first run builds Kubernetes: ten minutes)
	test/e2e/run

.PHONY: e2e-images
e2e-images: build ## Pack the images of e2e and of the quickstart, without docker or a registry
	@test/e2e/images

# VM_ONLY='6.12-arm64 6.1-amd64-tmpfs' runs only those; then test/vm/table write adds them to the tables of the documents, which a run of
# all does itself. Without VM_ONLY a suite is skipped where it has passed on this commit.
VM_ONLY ?=
.PHONY: vm
vm: ## Run the suites on other kernels and arm64, in qemu; VM_ONLY=6.12-arm64: only these
	@test/vm/run $(VM_ONLY)

# SOAK_TIME=10m is shorter. SOAK_OUT is the folder of the report and its plots.
SOAK_TIME ?= 60m
SOAK_OUT  ?= $(CURDIR)/dist/reliability
.PHONY: soak
soak: build ## Run the daemon for an hour (SOAK_TIME) with faults and kills; report in SOAK_OUT
	@KEYVAULT_CSI_SOAK_TIME=$(SOAK_TIME) KEYVAULT_CSI_SOAK_OUT=$(SOAK_OUT) test/run soak

##@ Measure

# BENCH_ARGS: -quick takes about 30 seconds on a quiet machine; -only latency runs one section.
.PHONY: bench
bench: build ## Measure the daemon at its socket (3 to 5 minutes; BENCH_ARGS=-quick: 30 s)
	@KEYVAULT_CSI_BIN=$(CURDIR)/bin go run ./test/bench $(BENCH_ARGS)

.PHONY: bench-plots
bench-plots: build ## Measure and write the figures and plots of docs/performance.md
	@KEYVAULT_CSI_BIN=$(CURDIR)/bin go run ./test/bench -svg docs/performance -doc docs/performance.md -fleets docs/performance.md $(BENCH_ARGS)

# It takes minutes to an hour. FLEET_OUT is a file that gets the rows of the table.
FLEET_OUT ?= $(CURDIR)/dist/fleet.md
# FLEET_RUN='TestFleets/^1,000' runs one row: its name is that of the table, with _ for a space.
FLEET_RUN ?= TestFleets
.PHONY: fleet
fleet: ## Simulate up to 20,000 nodes at one vault, in virtual time; the rows in FLEET_OUT
	@mkdir -p $(dir $(FLEET_OUT)) && rm -f $(FLEET_OUT)
	@KEYVAULT_CSI_FLEET_OUT=$(FLEET_OUT) go test -count=1 -v -timeout 4h -run '$(FLEET_RUN)' ./test/fleet

##@ Document

# The pages are those of docs/README.md. It opens as a file (dist/site/index.html) or from any web server, at any path.
# The first run builds hugo, which takes minutes. SHOTS=1 then looks at each page with chromium, at 390 and 1280 px, light and dark; the
# screenshots go to dist/site-shots.
.PHONY: site
site: $(HUGO) ## Build the site of the documents, check its links; SHOTS=1: also with chromium
	@tools/site/build $(HUGO) $(CURDIR)/dist/site
	@mkdir -p dist && go run -C tools/site ./check links -repository $(CURDIR) $(CURDIR)/dist/site >dist/site-links.txt; tail -n 1 dist/site-links.txt
ifneq ($(SHOTS),)
	@go run -C tools/site ./check browser -shots $(CURDIR)/dist/site-shots $(CURDIR)/dist/site
endif

##@ Release

.PHONY: image
image: ## Build the images with docker, podman or buildah (pulls the golang image)
	test/image keyvault-csi-driver $(IMAGE) $(VERSION)
	test/image kvrun $(KVRUN_IMAGE) $(VERSION)
	test/image keyvault-csi-sync $(SYNC_IMAGE) $(VERSION)

# SUPPLY='vuln licenses' runs only those. vuln looks for known vulnerabilities in the code that the binaries call: GOVULNDB names a mirror
# of the database; without it, and without a way to https://vuln.go.dev, vuln is skipped. licenses are those of all that is linked, and each
# THIRD_PARTY_NOTICES. sbom writes dist/*.cdx.json, the bill of materials of each binary. reproducible builds twice without a cache, which
# takes minutes.
CHECKS = $(call chosen,supply,SUPPLY,vuln licenses sbom reproducible)
tools_of_vuln     = govulncheck
tools_of_licenses = go-licenses
tools_of_sbom     = go-licenses sbom
.PHONY: supply
supply: $(if $(filter sbom,$(CHECKS)),build) $(addprefix $(TOOLS)/,$(sort $(foreach check,$(CHECKS),$(tools_of_$(check))))) ## Check vulnerabilities, licenses, SBOMs, reproducible builds; SUPPLY='vuln sbom'
	@for check in $(CHECKS); do TOOLS=$(TOOLS) test/supply $$check $(VERSION); done

# The steps of the workflow of a release, in this order; RELEASE.md. tools builds the programs that the others need (the first run builds
# cosign, which takes minutes) and prints their folder. The files of the release VERSION are in dist/release.
STEPS    := tools build publish verify
REGISTRY ?= ghcr.io/keyvault-csi
# Before the tools are built.
ifneq ($(filter release,$(MAKECMDGOALS)),)
ifneq ($(words $(STEP)) $(filter-out $(STEPS),$(STEP)),1 )
$(error make release needs one STEP of: $(STEPS))
endif
endif
.PHONY: release
release: $(RELEASE) ## Do one STEP of a release: tools, build, publish, verify (VERSION, REGISTRY)
ifeq ($(STEP),tools)
	@echo $(TOOLS)
else ifeq ($(STEP),build)
	@TOOLS=$(TOOLS) tools/release/run build $(VERSION) dist/release
else
	@TOOLS=$(TOOLS) tools/release/run $(STEP) dist/release $(REGISTRY)
endif

.PHONY: release-dry-run
release-dry-run: $(RELEASE) ## Rehearse a release without the network: build twice, publish, sign, verify
	@TOOLS=$(TOOLS) tools/release/rehearse v0.0.0-rehearsal dist/release

# What the targets need.

$(GOLANGCI): tools/go.mod tools/go.sum
	go build -C tools -o $@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	@touch $@

bin/csi-sanity: test/sanity/go.mod test/sanity/go.sum
	CGO_ENABLED=0 go build -C test/sanity -trimpath -buildvcs=false -ldflags '-s -w' -o $(CURDIR)/$@ github.com/kubernetes-csi/csi-test/v5/cmd/csi-sanity
	@touch $@

$(TOOLS)/govulncheck: tools/supply/go.mod tools/supply/go.sum
	CGO_ENABLED=0 go build -C tools/supply -trimpath -buildvcs=false -ldflags '-s -w' -o $@ golang.org/x/vuln/cmd/govulncheck
	@touch $@

$(TOOLS)/go-licenses: tools/supply/go.mod tools/supply/go.sum
	CGO_ENABLED=0 go build -C tools/supply -trimpath -buildvcs=false -ldflags '-s -w' -o $@ github.com/google/go-licenses/v2
	@touch $@

$(TOOLS)/sbom: tools/supply/go.mod tools/supply/go.sum tools/supply/sbom/main.go
	CGO_ENABLED=0 go build -C tools/supply -trimpath -buildvcs=false -ldflags '-s -w' -o $@ ./sbom
	@touch $@

$(TOOLS)/actions: tools/actions/go.mod tools/actions/go.sum tools/actions/main.go
	CGO_ENABLED=0 go build -C tools/actions -trimpath -buildvcs=false -ldflags '-s -w' -o $@ .
	@touch $@

$(TOOLS)/cosign $(TOOLS)/crane $(TOOLS)/image &: tools/release/go.mod tools/release/go.sum tools/release/image/main.go
	CGO_ENABLED=0 go build -C tools/release -trimpath -buildvcs=false -ldflags '-s -w' -o $(TOOLS)/ \
		github.com/sigstore/cosign/v3/cmd/cosign github.com/google/go-containerregistry/cmd/crane ./image
	@touch $(TOOLS)/cosign $(TOOLS)/crane $(TOOLS)/image

$(TOOLS)/krew $(TOOLS)/validate-krew-manifest &: tools/krew/go.mod tools/krew/go.sum
	CGO_ENABLED=0 go build -C tools/krew -trimpath -buildvcs=false -ldflags '-s -w' -o $(TOOLS)/ \
		sigs.k8s.io/krew/cmd/krew sigs.k8s.io/krew/cmd/validate-krew-manifest
	@touch $(TOOLS)/krew $(TOOLS)/validate-krew-manifest

# The Helm of the end-to-end tests, from their module: whoever runs both builds it once.
$(HELM): test/cluster/kubernetes/go.mod test/cluster/kubernetes/go.sum
	CGO_ENABLED=0 go build -C test/cluster/kubernetes -trimpath -buildvcs=false -ldflags '-s -w' -o $@ helm.sh/helm/v3/cmd/helm
	@touch $@

$(HELM4): tools/chart/helm4/go.mod tools/chart/helm4/go.sum
	CGO_ENABLED=0 go build -C tools/chart/helm4 -trimpath -buildvcs=false -ldflags '-s -w' -o $@ helm.sh/helm/v4/cmd/helm
	@touch $@

$(HELM_DOCS): tools/chart/go.mod tools/chart/go.sum
	CGO_ENABLED=0 go build -C tools/chart -trimpath -buildvcs=false -ldflags '-s -w' -o $@ github.com/norwoodj/helm-docs/cmd/helm-docs
	@touch $@

$(HUGO): tools/site/go.mod tools/site/go.sum
	CGO_ENABLED=0 go build -C tools/site -trimpath -buildvcs=false -ldflags '-s -w' -o $@ github.com/gohugoio/hugo
	@touch $@
