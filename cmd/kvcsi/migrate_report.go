package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/keyvault-csi/keyvault-csi/pkg/migrate"
)

// reportText prints the findings, and then what became of the workloads.
func reportText(name string, result migrate.Result, stderr io.Writer) {
	for _, finding := range result.Findings {
		fmt.Fprintln(stderr, finding)
	}
	var left []string
	for _, w := range result.Workloads {
		if !w.Moved {
			left = append(left, w.Object)
		}
	}
	switch moved := len(result.Workloads) - len(left); {
	case len(result.Workloads) == 0 && len(result.Findings) == 0:
		hint := ""
		if slices.ContainsFunc(result.Files, func(f migrate.File) bool { return bytes.Contains(f.Data, []byte("{{")) }) {
			hint = "; a template of Helm shows all of its pods when it is rendered: helm template . | kvcsi migrate -f -"
		}
		fmt.Fprintln(stderr, name+": found nothing to migrate in", count(len(result.Files), "file")+hint)
	case len(left) == 0:
		fmt.Fprintf(stderr, "%s: %s read, %s moved\n", name, count(len(result.Files), "file"), count(moved, "workload"))
	default:
		fmt.Fprintf(stderr, "%s: %s read, %s moved, %d left: %s\n", name,
			count(len(result.Files), "file"), count(moved, "workload"), len(left), strings.Join(left, ", "))
	}
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// The report in JSON. Its names are part of the command's interface.
type (
	jsonReport struct {
		Files    int            `json:"files"` // how many were read
		Moved    []jsonWorkload `json:"moved"`
		Left     []jsonWorkload `json:"left"`
		Findings []jsonFinding  `json:"findings"`
	}
	jsonWorkload struct {
		File   string   `json:"file"`
		Line   int      `json:"line"`
		Object string   `json:"object"`
		Why    []string `json:"why,omitempty"`
	}
	jsonFinding struct {
		File   string `json:"file"`
		Line   int    `json:"line"`
		Object string `json:"object"`
		Level  string `json:"level"` // "note", "not carried over" or "not migrated"
		Text   string `json:"text"`
	}
)

func reportJSON(result migrate.Result, stderr io.Writer) error {
	report := jsonReport{Files: len(result.Files), Moved: []jsonWorkload{}, Left: []jsonWorkload{}, Findings: []jsonFinding{}}
	for _, w := range result.Workloads {
		entry := jsonWorkload{File: w.File, Line: w.Line, Object: w.Object, Why: w.Why}
		if w.Moved {
			report.Moved = append(report.Moved, entry)
		} else {
			report.Left = append(report.Left, entry)
		}
	}
	for _, f := range result.Findings {
		report.Findings = append(report.Findings, jsonFinding{File: f.File, Line: f.Line, Object: f.Object, Level: f.Level.String(), Text: f.Text})
	}
	encoder := json.NewEncoder(stderr)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(report)
}
