"""The configuration that `reconcile init` writes. Pure."""

from __future__ import annotations

TEMPLATE = """\
# Configuration of reconcile. Paths are relative to this file.
version: 1

profiles: profiles                    # every *.yaml and *.yml below it is read

default_environment: local

# mask: [personal]                    # show (personal #1) instead of personal values
# public_attributes: [tier]           # keys of custom attributes that are not personal

environments:
  local:
    api:
      url: emulator                   # the embedded emulator; `reconcile state path` shows where it is kept

  production:
    api:
      url: https://api.adapty.io
      key_env: ADAPTY_SECRET_KEY      # the name of the variable, never the key
      dialect: guide                  # or openapi: the later published specification
      rate: 300/min                   # or N/s, or auto: start low, learn from 429
      timeout: 30                     # seconds, the deadline of a whole call
      quiet_period: 60                # seconds before another value follows an uncertain write
      delete_attribute_with: 'null'   # or empty
      send_ip_country: always         # or changed: the API may then take it from this machine's address
      # proxy: http://proxy.example:3128
      # ca_bundle: certificates.pem
    # state:                          # by default in your home folder: `reconcile state path`
    #   url: sqlite:///.reconcile/production.db
    limits:
      max_delete: 25%                 # the most that --prune may delete: a share, or a count
      max_sweep: 100%                 # the most of one sweep; without it, max_delete where given
      max_changes: 1000               # the most changes of one apply
    confirm: true                     # --auto-approve also needs the plan's digest
"""
