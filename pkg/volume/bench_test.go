package volume_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

func BenchmarkParse(b *testing.B) {
	var secrets, objects strings.Builder
	for i := range 10 {
		fmt.Fprintf(&secrets, "secret-%d;", i)
		fmt.Fprintf(&objects, "- secret: secret-%d\n  path: app/secret-%[1]d\n  mode: \"0440\"\n", i)
	}
	for name, attributes := range map[string]pairs{
		"ten secrets": valid(pairs{"secrets": secrets.String()}),
		"ten objects": structured(objects.String()),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := volume.Parse(attributes, nil, volume.Defaults{}); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+", same as before", func(b *testing.B) {
			b.ReportAllocs()
			for parser := volume.NewParser(volume.Defaults{}); b.Loop(); {
				if _, err := parser.Parse(attributes, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkRotationInterval(b *testing.B) {
	attributes := valid(pairs{"rotationInterval": "5m"})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := volume.RotationInterval(attributes, time.Minute); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkHostile shows that the work of Parse is bounded for hostile input; each row is as large as the limits allow.
func BenchmarkHostile(b *testing.B) {
	const size = 240_000
	fill := func(s string) string { return strings.Repeat(s, size/len(s)) }
	unknown := valid()
	for i := range 7000 {
		unknown[fmt.Sprintf("downloadCACertificate%d.%x", i, i)] = "true"
	}
	var many strings.Builder
	for i := range 4096 {
		fmt.Fprintf(&many, "- {secret: s%d, path: a/b/c/d/e/f/g/h/i/j/k/l/%[1]d}\n", i)
	}
	marks := 65000
	for name, attributes := range map[string]pairs{
		"segments":      valid(pairs{"secrets": fill("a b;")}),
		"colons":        valid(pairs{"secrets": fill(":")}),
		"semicolons":    valid(pairs{"secrets": fill(";")}),
		"attributes":    unknown,
		"deep paths":    structured(many.String()),
		"flow depth":    structured(strings.Repeat("[", marks)),
		"flow commas":   structured("[" + strings.Repeat("a,", marks) + "]"),
		"block depth":   structured(strings.Repeat("- ", marks) + "a"),
		"fields":        structured("- {" + strings.Repeat("abcd: ,", marks/2) + "}"),
		"objects wrong": structured(strings.Repeat("- {secreT: a}\n", 4096)),
		"comments":      structured(strings.Repeat("#x\n", marks) + "- secret: a"),
		"one string":    structured("- secret: " + fill("a")),
		"blanks":        structured("- secret: a" + fill(" ")),
		"quoted":        structured("- secret: \"" + fill("\\n")),
		"key":           structured("- " + fill("a") + ": b"),
		"anchors":       structured(strings.Repeat("- &a a\n", marks/3)),
		"tabs":          structured("- secret:" + fill("\t")),
		"line ends":     structured(fill("-\u0085")),
		"tabs nest":     structured(fill("-\t")),
		"question":      structured(fill("?") + " a"),
		"literal":       structured("- secret: |\n" + strings.Repeat(" a\n", marks)),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = volume.Parse(attributes, nil, volume.Defaults{})
			}
		})
	}
}
