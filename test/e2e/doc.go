// Package e2e proves in a running cluster what no test beside the code can: a real kubelet mounts the volumes, a real API
// server hands out the tokens, and the driver comes from the chart as users get it.
//
// `make e2e` brings up a cluster of its own (test/cluster) and runs the tests in it; with KUBECONFIG set they run against
// that cluster instead. What they need is given by these variables, and without the first they skip:
//
//	E2E_DRIVER_IMAGE  the driver's image, REPOSITORY:TAG, which the nodes have or can pull
//	E2E_TEST_IMAGE    the image with the dev cloud and the program workload (made by `make e2e-images`)
//	E2E_KUBELET_ROOT  the kubelet's folder on the nodes, if it is not /var/lib/kubelet
//	E2E_RUNTIME       new, if the nodes must have a runtime that knows user namespaces and recursively read-only mounts; otherwise
//	                  tests of what the runtime does not announce skip
//
// kubectl and helm are on the PATH. Everything else goes through the API server, also the looks at the node: a privileged
// pod there answers for it. The dev cloud is a pod, which the driver reaches by the chart's proxy and CA values; it is told
// the API server's real issuer and keys, and so judges real tokens. Its metadata service is put at 169.254.169.254, on a
// node that has this address (test/cluster's does; elsewhere the tests of managed identities skip). The node's azure.json is
// /run/keyvault-csi-e2e/azure.json, which is made and removed.
//
// All tests are one tree under TestE2E, because they share the installed driver and come in an order: what runs side by
// side and disturbs nobody, then what restarts drivers and kubelets, then the removal.
package e2e
