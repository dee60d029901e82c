package providerclass_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/keyvault-csi/keyvault-csi/pkg/providerclass"
)

// A call of Mount comes for each pod every two minutes.
func BenchmarkRequest(b *testing.B) {
	for _, count := range []int{1, 10, 50} {
		var objects strings.Builder
		objects.WriteString("array:\n")
		for i := range count {
			fmt.Fprintf(&objects, "  - |\n    objectName: secret-%d\n    objectType: secret\n    objectAlias: app/%d\n    objectVersion: \"\"\n", i, i)
		}
		parameters := inPod(class("objects", objects.String()))
		b.Run(fmt.Sprintf("objects=%d", count), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := providerclass.Request(parameters, nil, options()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
