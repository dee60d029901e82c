package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"text/tabwriter"
	"time"
)

// writeStatusJSON writes what -o json has.
func writeStatusJSON(to io.Writer, volumes []volumeStatus, missing []string) error {
	encoder := json.NewEncoder(to)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(struct {
		Volumes []volumeStatus `json:"volumes"`
		Missing []string       `json:"missing"`
	}{append([]volumeStatus{}, volumes...), append([]string{}, missing...)})
}

func (a *asked) writeStatusTable(volumes []volumeStatus, all bool) {
	if len(volumes) == 0 {
		where := "in the namespace " + a.Namespace + " (-A for all)"
		if all {
			where = "in any namespace"
		}
		fmt.Fprintf(a.stderr, "%s: no pod has a volume of %s %s\n", a.name, a.driver, where)
		return
	}
	table := tabwriter.NewWriter(a.stdout, 0, 0, 3, ' ', 0)
	head := "POD\tVOLUME\tSTATE\tAGE\tCERTIFICATES\tMESSAGE\n"
	if all {
		head = "NAMESPACE\t" + head
	}
	fmt.Fprint(table, head)
	for _, v := range volumes {
		if all {
			fmt.Fprintf(table, "%s\t", v.Namespace)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", v.Pod, v.Volume, v.State, ageText(v.AgeSeconds), certificatesText(v), v.Message)
	}
	_ = table.Flush() // an error of stdout cannot be shown better
}

// ageText writes an age as kubectl does, in its largest unit.
func ageText(seconds *int64) string {
	if seconds == nil {
		return "-"
	}
	return roughly(time.Duration(*seconds) * time.Second)
}

func roughly(d time.Duration) string {
	switch {
	case d < 0:
		return "-" + roughly(-d)
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

// certificatesText has the certificate that ends first, and how many others are known.
func certificatesText(v volumeStatus) string {
	if len(v.Certificates) == 0 {
		return "-"
	}
	first := v.Certificates[0]
	text := first.File + " ends in " + roughly(first.NotAfter.Sub(v.now))
	if first.NotAfter.Before(v.now) {
		text = first.File + " ended " + roughly(v.now.Sub(first.NotAfter)) + " ago"
	}
	if more := len(v.Certificates) - 1; more > 0 {
		text += fmt.Sprintf(" (+%d)", more)
	}
	return text
}

// aPod is the name of a pod in the refusal of an API server.
var aPod = regexp.MustCompile(`pods "[^"]*" is forbidden`)

// withoutPod makes the refusals of all pods equal, so that they are said once.
func withoutPod(err error) error {
	return errors.New(aPod.ReplaceAllString(err.Error(), "pods are forbidden"))
}
