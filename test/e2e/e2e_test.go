package e2e

import "testing"

func TestE2E(t *testing.T) {
	e := setUp(t)

	// The installation.
	ok := t.Run("install", func(t *testing.T) {
		e.installDriver(t)
	})
	if !ok {
		t.FailNow()
	}

	t.Run("volumes", func(t *testing.T) {
		for _, test := range []struct {
			name string
			run  func(t *testing.T, e *env)
		}{
			{"chart passes the API server's validation", testServerDryRun},
			{"the driver has no rights at the API server", testNoRights},
			{"the driver has given up its privileges", testPrivileges},
			{"sockets are root's alone", testSocketModes},
			{"the image holds the driver and nothing else", testImage},
			{"nothing secret is shown", testNothingSecretIsShown},
			{"restricted pod reads the vault's bytes", testRestrictedPod},
			{"a volume that is not read-only is refused", testReadOnlyIsRequired},
			{"root cannot write", testRootCannotWrite},
			{"user namespace", testUserNamespace},
			{"recursively read-only mount", testRecursiveReadOnly},
			{"fsGroup", testFSGroup},
			{"subPath keeps what the container started with", testSubPath},
			{"rotation without restart and never torn", testRotation},
			{"variables by kvrun from an image volume, and a signal", testKvrunSignal},
			{"variables by kvrun from an init container", testKvrunInstalled},
			{"variables by fileKeyRef", testFileKeyRef},
			{"files of values, a keystore and a manifest", testValueFiles},
			{"service principal of nodePublishSecretRef", testServicePrincipal},
			{"service account that is not federated", testNotFederated},
			{"service account of the same name in another namespace", testOtherNamespace},
			{"issuer and audience of another trust", testOtherTrust},
			{"cluster identity of the node's azure.json", testClusterIdentity},
			{"wrong vault, then corrected", testWrongVault},
			{"missing secret, then created", testMissingSecret},
			{"missing permission, then granted", testForbidden},
			{"unknown attribute", testUnknownAttribute},
			{"stats summary", testStats},
			{"kubectl kvcsi", testPlugin},
			{"vault down during republish", testVaultDown},
		} {
			t.Run(test.name, func(t *testing.T) {
				t.Parallel()
				test.run(t, e)
			})
		}
	})

	// These affect other tests, so each runs alone.
	for _, test := range []struct {
		name string
		run  func(t *testing.T, e *env)
	}{
		{"admission policies", testAdmission},
		{"read-write requests allowed", testReadWriteRequests},
		{"provider mode", testProviderMode},
		{"helm test", testHelmTest},
		{"second driver beside the first", testSecondDriver},
		{"Kubernetes Secrets", testSecrets},
		{"Kubernetes Secrets that rotate", testRotatingSecrets},
		{"manifests of kvcsi migrate", testMigrated},
		{"tokens in the volume context", testTokensInVolumeContext},
		{"thirty pods come and go", testManyPods},
		{"driver killed", testDriverKilled},
		{"helm upgrade and rollback", testUpgradeAndRollback},
		{"kubelet restarted twice", testKubeletRestarted},
		{"helm uninstall leaves nothing", testUninstall},
		{"quickstart, word for word", testQuickstart},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, e) })
	}
}
