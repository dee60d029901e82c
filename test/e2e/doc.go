// Package e2e tests the driver in a cluster: a real kubelet mounts the volumes, a real API server issues the tokens, and the chart installs
// the driver.
//
// `make e2e` starts a cluster (test/cluster) and runs the tests in it; with KUBECONFIG they use that cluster instead. They are configured
// by these variables, and skip without the first:
//
//	E2E_DRIVER_IMAGE  the driver's image, REPOSITORY:TAG, which the nodes have or can pull
//	E2E_SYNC_IMAGE    that of keyvault-csi-sync; without it the tests of Kubernetes Secrets skip
//	E2E_TEST_IMAGE    the image with the dev cloud and the program workload (made by `make e2e-images`)
//	E2E_KVRUN_IMAGE   kvrun's image; without it the tests of kvrun skip
//	E2E_KUBELET_ROOT  the kubelet's folder on the nodes, if it is not /var/lib/kubelet
//	E2E_RUNTIME       new, if the nodes must have a runtime that knows user namespaces and recursively read-only mounts; otherwise
//	                  tests of what the runtime does not announce skip
//	SYNC_FREQUENCY    the kubelet's syncFrequency, if it is not 1m
//	E2E_LONG          a hundred Kubernetes Secrets rotate for ten minutes
//
// kubectl and helm must be on the PATH. Everything else goes through the API server, also the view of the node, by a privileged pod. The dev
// cloud is a pod, which the driver reaches by the chart's proxy and CA values. It knows the API server's real issuer and keys, so it checks
// real tokens. Its metadata service is at 169.254.169.254, on a node that has this address (as in test/cluster; elsewhere the tests of
// managed identities skip). The node's azure.json is /run/keyvault-csi-e2e/azure.json, which the tests create and remove.
//
// All tests are subtests of TestE2E, because they share the installed driver and have an order: first tests that run in parallel, then those
// that restart the driver and the kubelet, then the removal.
package e2e
