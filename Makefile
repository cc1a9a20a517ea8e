# The commands of this project. They set up what they need in a cache outside the checkout; the first run takes a while and
# prints what it does.
# By PATH: NixOS and FreeBSD have none in /bin.
SHELL := bash
# With it, python -m does not look in the checkout.
unexport PYTHONSAFEPATH
STACK ?= local
HOSTS ?= 1 10 50
PYTHON310 ?= 3.10
# Stack local does not ask for confirmation: it makes and destroys only its own resources. Other stacks show their preview and ask.
CONFIRM := $(if $(filter local,$(STACK)),--yes --skip-preview)
DESTROY := $(if $(filter local,$(STACK)),--yes)
ENV := eval "$$(tools/env)"
# The same for the stack: your own login and backend, but for stack local, which keeps its state in the checkout.
STACK_ENV := eval "$$(tools/env $(STACK))"
# A mistyped name would become a stack of the backend and a file here. A name may have its organization and project before it.
STACK_FILE := stacks/Pulumi.$(notdir $(STACK)).yaml
KNOWN = test -f '$(STACK_FILE)' || { echo 'error: there is no $(STACK_FILE). Name another stack (STACK=NAME), or write its file: make new-stack' >&2; exit 1; }
COMPILE := uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-emit-index-url --no-header
# Tests that share a machine or a Debian stay in one lane, in order; see tests/tiers.py and tests/turns.py.
LANES := --numprocesses=auto --maxprocesses=3 --dist=loadfile --no-loadscope-reorder
# What only tests run: built or downloaded before they begin, since a test's time is bounded.
TEST_PARTS := kube-controller-manager kube-scheduler kube-apiserver-oldest kwok kubelet kubelet-newest \
  containerd ctr containerd-shim-runc-v2 loopback ptp host-local sdkgen pulumi-language-yaml
PARTS := $(if $(filter local genuine,$(STACK)),python3 -m tools.local >/dev/null &&)

.PHONY: help up preview policy down new-stack set-up test coverage test-fast test-slow test-engine test-cluster test-node \
  test-machine test-nightly test-python310 bench bench-fleet bench-budget lint lock generate schema release-files platforms
help: ## show this list
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## / {printf "%-16s%s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo; echo "STACK=NAME chooses the stack (now: $(STACK)); stacks/ holds their files."

up: ## make the stack what its file says, and prove it
	@$(KNOWN)
	@$(STACK_ENV) && $(PARTS) pulumi stack select --create $(STACK) && pulumi up --stack $(STACK) $(CONFIRM)

preview: ## show what `make up` would do; changes nothing and contacts no node
	@$(KNOWN)
	@$(STACK_ENV) && pulumi stack select --create $(STACK) && pulumi preview --stack $(STACK)

policy: ## the same, and refuse what the policy pack (policy/README.md) finds
	@$(KNOWN)
	@$(STACK_ENV) && pulumi stack select --create $(STACK) && pulumi preview --stack $(STACK) --policy-pack tools/policy

down: ## destroy what the stack made
	@$(STACK_ENV) && pulumi stack select $(if $(filter local,$(STACK)),--create) $(STACK) && pulumi destroy --stack $(STACK) $(DESTROY)

new-stack: ## write a stack file for a new stack, from a few questions
	@$(ENV) && python -m stacks.new

# Set up what tests run, then run those of a tier: the arguments of pytest.
SET_UP = @python3 -m tools.local >/dev/null && python3 -m tools.get $(TEST_PARTS) >/dev/null && python3 -m tools.browser
TESTS = @$(ENV) && python -m pytest $(LANES) --durations=15
# To rewrite all assertions takes 10 s, also on a second run where an image's environment has bytecode thrown away.
KEEPING_BYTECODE := env -u PYTHONDONTWRITEBYTECODE
PYTHON_ALONE := not nightly and not engine and not browser and not machine and not guest and not apt and not debian
FAST := $(PYTHON_ALONE) and not slow

set-up: ## set up everything that tests need, and run no test
	$(SET_UP)

test: ## run all tests but the long forms: the six tiers below
	$(SET_UP)
	$(TESTS) tests -m "not nightly"

coverage: ## the same, and print what these processes covered; nearly doubles the time of fast tests
	$(SET_UP)
	$(TESTS) tests --cov --cov-report=term -m "not nightly"

test-fast: ## a tier: what needs neither engine nor browser nor machine, and takes a minute
	@$(ENV) && $(KEEPING_BYTECODE) python -m pytest tests --numprocesses=auto --durations=8 -m "$(FAST)"

test-slow: ## a tier: the same, but programs that are started and killed again and again, hundreds of inputs, bounds that run out
	@$(ENV) && $(KEEPING_BYTECODE) python -m pytest tests --numprocesses=auto --durations=8 -m "$(PYTHON_ALONE) and slow"

test-engine: ## a tier: the engine and its plugins, and a browser, without a node or a cluster
	$(SET_UP)
	$(TESTS) tests --ignore=tests/clusterkit -m "not nightly and (engine or browser) and not machine and not guest and not apt and not debian"

test-cluster: ## a tier: a real control plane, a real kubelet
	$(SET_UP)
	$(TESTS) tests/clusterkit -m "not nightly and not machine and (engine or browser or guest or apt or debian)"

test-node: ## a tier: a whole Debian in namespaces, apt, guests
	$(SET_UP)
	$(TESTS) tests --ignore=tests/clusterkit -m "not nightly and not machine and (guest or apt or debian)"

test-machine: ## a tier: emulated machines
	$(SET_UP)
	$(TESTS) tests -m "not nightly and machine"

test-nightly: ## run the long forms of tests: every occurrence of a kill point, more rounds
	$(SET_UP)
	$(TESTS) tests -m "nightly"

# The tests of handlers ask set-up for a containerd, and set-up needs Python 3.11.
test-python310: ## the node program's fast and slow tests under Python 3.10, the oldest that nodes have (PYTHON310=PATH names one)
	@$(ENV) && uv run --quiet --no-project --python $(PYTHON310) --with-requirements tests/python310.txt python -m pytest \
	  tests/nodekit tests/fuzz --ignore=tests/nodekit/test_handler.py --ignore=tests/nodekit/test_handler_rules.py \
	  --numprocesses=auto -p no:cacheprovider -m "$(PYTHON_ALONE)"

bench: ## measure runs without a change (a node, a hundred hosts, a hundred nodes of a cluster), thousands of joining nodes, the ladder in a guest
	@python3 -m tools.local >/dev/null
	@set -o pipefail; $(ENV) && python bench/no_op_run.py && python bench/preview_hosts.py && python bench/hundred_nodes.py | tail -1 && python bench/joining_nodes.py | grep -v '^info' && python bench/proof_time.py

bench-fleet: ## this program beside Ansible, pyinfra and plain ssh on HOSTS="1 10 50" hosts in namespaces; needs root, takes an hour or two
	@python3 -m tools.local >/dev/null
	@$(ENV) && python -m bench.fleet run $(HOSTS) && python -m bench.fleet page

bench-budget: ## the same for this program alone, on one and four hosts: fails where a ratio is worse than its budget
	@python3 -m tools.local >/dev/null
	@$(ENV) && python -m bench.fleet budget

generate: ## write the schema of stack files, the references in docs/reference/ and the reviewed plan of prod from the code
	@$(ENV) && python -m tools.generate && python -m tests.stacks.prod_plan

lint: ## ruff, import-linter, mypy, shellcheck, actionlint, zizmor
	@$(ENV) && ruff check . && ruff format --check . && lint-imports --no-cache --no-logo && mypy && tools/shellcheck && tools/workflows

lock: ## write the locked requirements from the .in files: of the program, the tests, kata-nodes, the controller's image, the policy pack and the tools to compare with
	@$(ENV) && $(COMPILE) requirements-dev.in --output-file requirements-dev.txt
	@$(ENV) && $(COMPILE) --constraint requirements-dev.txt requirements.in --output-file requirements.txt
	@$(ENV) && $(COMPILE) --constraint requirements-dev.txt clusterkit/controller/requirements.in --output-file clusterkit/controller/requirements.txt
	@$(ENV) && $(COMPILE) --constraint requirements-dev.txt fleet/requirements.in --output-file fleet/requirements.txt
	@$(ENV) && uv pip compile --quiet --universal --generate-hashes --python-version 3.10 --no-emit-index-url --no-header tests/python310.in --output-file tests/python310.txt
	@$(ENV) && $(COMPILE) policy/requirements.in --output-file policy/requirements.txt
	@$(ENV) && $(COMPILE) bench/fleet/requirements.in --output-file bench/fleet/requirements.txt

platforms: ## check that the locks install from wheels on Linux and macOS, both processors, every Python; asks the package index
	@$(ENV) && python -m tools.platforms

schema: ## write components/schema.json, the schema of the package, from the components
	@$(ENV) && schema=$$(python -m components.package) && printf '%s\n' "$$schema" >components/schema.json

release-files: schema ## write what later changes are checked against; see CHANGELOG.md
	@$(ENV) && python -m tests.package.release
