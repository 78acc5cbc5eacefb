# Sourced by the scripts beside it: sets up what they need, and does nothing where that is there already.
#
#   setup_python [GROUP …]   .venv with this project and its extras, editable, and its dependency groups
#   setup_yjs                the npm packages of tests/yjs; without Node.js it says what that means, and goes on
#   setup_graphql            the same of tests/graphql
#   setup_mcp                the same of tests/mcp
#   setup_web                the same for web/
#   setup_site               the same for docs/site, for the documentation as a site
#   setup_examples           the same for examples/
#
# Afterwards $PROJECT is the project's folder and $BIN the programs of .venv. The working directory stays the caller's.

PROJECT=$(cd -P "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
BIN=$PROJECT/.venv/bin

setup_python() {
  _have_environment || _make_environment
  local group
  for group in base "$@"; do
    _have "$group" && continue
    _say "installing ($group) into .venv"
    if [ "$group" = base ]; then
      _upgrade_pip
      _pip install --editable "$PROJECT[server,graphql,postgres]"
    else
      (cd "$PROJECT" && _pip install --group "$group")
    fi
    _state > "$PROJECT/.venv/.setup-$group"
  done
}

setup_yjs() { _npm_install tests/yjs "the tests with Yjs will be skipped"; }

setup_graphql() { _npm_install tests/graphql "the tests with stock clients of GraphQL will be skipped"; }

setup_mcp() { _npm_install tests/mcp "the tests with stock clients of MCP will be skipped"; }

setup_web() { _npm_install web "the TypeScript client is neither checked nor tested"; }

setup_site() { _npm_install docs/site "the reference of the TypeScript client is left out"; }

setup_examples() { _npm_install examples "the examples are neither checked nor tested"; }

# What package-lock.json of a folder says, unless it is there already.
_npm_install() {
  local folder=$PROJECT/$1
  if ! command -v node > /dev/null || ! command -v npm > /dev/null; then
    _say "Node.js with npm is not here: $2"
    return
  fi
  cmp -s "$folder/package-lock.json" "$folder/node_modules/.setup" && return
  _say "installing the packages of $1"
  (cd "$folder" && npm ci --no-audit --no-fund --loglevel=error > /dev/null)
  cp "$folder/package-lock.json" "$folder/node_modules/.setup"
}

_say() { echo "setup: $*" >&2; }

# Whether a group was installed as pyproject.toml has it now, and for this folder.
_have() { [ "$(cat "$PROJECT/.venv/.setup-$1" 2> /dev/null)" = "$(_state)" ]; }

_state() { echo "$PROJECT $(cksum < "$PROJECT/pyproject.toml")"; }

_have_environment() { "$BIN/python" -c "import pip; $_SUITABLE" 2> /dev/null; }

_SUITABLE='import sys; sys.exit(sys.version_info < (3, 11))'

_make_environment() {
  local python
  for python in "${PYTHON:-python3}" python3.13 python3.12 python3.11; do
    "$python" -c "$_SUITABLE" 2> /dev/null && break
    python=
  done
  if [ -z "$python" ]; then
    _say "Python 3.11 or newer is needed; PYTHON=/path/to/python names one"
    exit 1
  fi
  _say "making .venv with $python"
  if ! "$python" -m venv --clear "$PROJECT/.venv"; then
    _say "$python could not make .venv; on Debian and Ubuntu it needs the package python3-venv"
    exit 1
  fi
}

# pip knows dependency groups since 25.1; that of an older Python's venv does not.
_upgrade_pip() {
  case $("$BIN/python" -m pip install --help) in
    *--group*) ;;
    *) _pip install --upgrade pip ;;
  esac
}

_pip() { PIP_DISABLE_PIP_VERSION_CHECK=1 "$BIN/python" -m pip --quiet "$@"; }
