// Checks the dashboard with Grafana's own types, in a module of its own: they are generated code for all of Grafana.
module github.com/keyvault-csi/keyvault-csi/tools/dashboard

go 1.26.0

require github.com/grafana/grafana-foundation-sdk/go v0.0.22
