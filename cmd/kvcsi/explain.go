package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"go.yaml.in/yaml/v3"

	"github.com/keyvault-csi/keyvault-csi/cmd/kvcsi/internal/cluster"
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/reads"
	"github.com/keyvault-csi/keyvault-csi/pkg/migrate"
	"github.com/keyvault-csi/keyvault-csi/pkg/policy"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

const explainUsage = `%[1]s shows for each volume of the driver in a pod: the identity, the files, the requests to vaults, what the driver's
policy decides, and the last failed mount. It reads the pod, its events, the driver's pods (for their flags), and the ConfigMap of the
policy, with your own kubeconfig. Without a right it shows the rest, and says on standard error what is missing. It asks no vault, and reads
no Secret: what only the Secret of nodePublishSecretRef has, such as a client id, is not known.

Usage: %[1]s POD [-n NAMESPACE]

Exit code: 0 if every volume is valid and allowed (also if the policy is not known), 1 if one is not, or if the cluster cannot be asked, 2
for a wrong command line.
`

// runExplain explains the volumes of one pod.
func runExplain(ctx context.Context, c command) (exitCode int, err error) {
	k := newKubeCommand(c)
	if code, err := k.parse(explainUsage); code != parsed {
		return code, err
	}
	if k.flags.NArg() != 1 {
		return exitUsage, fmt.Errorf("name one pod: %s POD", k.name)
	}
	a, err := k.connect()
	if err != nil {
		return exitError, err
	}
	p, err := a.pod(ctx, k.flags.Arg(0))
	if err != nil {
		return exitError, err
	}
	if len(p.VolumesOf(a.driver)) == 0 {
		return exitError, a.noVolume(p)
	}
	exitCode, err = a.explainPod(ctx, p)
	a.sayMissing()
	return exitCode, err
}

func (a *asked) explainPod(ctx context.Context, p cluster.Pod) (exitCode int, err error) {
	settings, rules := a.settings(ctx, p.Spec.NodeName)
	_, defaults, err := settings.defaults()
	if err != nil {
		return exitError, err
	}
	volumes, err := volumesOf(p, a.driver, defaults, settings.readWrite)
	if err != nil {
		return exitError, err
	}
	failures, err := a.failures(ctx, p.Metadata.Namespace)
	if ctx.Err() != nil {
		return exitError, errInterrupted
	}
	if err != nil {
		a.miss("no failed mounts are shown", err)
	}
	for _, v := range volumes {
		fmt.Fprintf(a.stdout, "Pod %s/%s, volume %s\n", p.Metadata.Namespace, p.Metadata.Name, v.Name)
		if len(v.Filled) > 0 {
			v.Problems = append(v.Problems, migrate.VolumeProblem{Text: "holds the placeholder " + v.Filled[0] + ", which nothing has replaced"})
		}
		for _, problem := range v.Problems {
			fmt.Fprintf(a.stdout, "  problem   %s\n", volume.OneLine(problem.Text, volume.MaxText))
			exitCode = exitError
		}
		if len(v.Problems) == 0 {
			v.Request.Pod = volume.Pod{
				Name: p.Metadata.Name, Namespace: p.Metadata.Namespace, UID: p.Metadata.UID, ServiceAccount: p.Spec.ServiceAccountName,
			}
			showRequest(v, p.Spec.SecurityContext.FSGroup != nil, a.stdout)
			showPlan(reads.Plan(v.Request), a)
			if !a.showPolicy(rules, v.Request) {
				exitCode = exitError
			}
		}
		if e, failed := failures[p.VolumeKey(v.Name)]; failed {
			_, why := e.FailedMount()
			fmt.Fprintf(a.stdout, "  last failed mount, %s\n    %s\n", e.Time().UTC().Format("2006-01-02 15:04:05 UTC"), why)
		}
	}
	return exitCode, nil
}

// volumesOf validates the volumes of a pod as render does: the same fields as a manifest. YAML refuses some characters that JSON does not
// escape.
func volumesOf(p cluster.Pod, driver string, defaults volume.Defaults, readWrite bool) ([]migrate.Volume, error) {
	type object = map[string]any
	var all []object
	for _, v := range p.VolumesOf(driver) {
		csi := *v.CSI
		csi.Driver = migrate.DriverName // render knows this name only
		if readWrite {
			csi.ReadOnly = &readWrite // the driver accepts the volume without it
		}
		all = append(all, object{"name": v.Name, "csi": csi})
	}
	manifest, err := json.Marshal(object{
		"apiVersion": "v1", "kind": "Pod", "metadata": object{"name": p.Metadata.Name, "namespace": p.Metadata.Namespace},
		"spec": object{"serviceAccountName": p.Spec.ServiceAccountName, "volumes": all},
	})
	if err != nil {
		return nil, err
	}
	return migrate.Volumes([]migrate.File{{Name: p.Metadata.Name, Data: []byte(escapeControls(string(manifest)))}}, defaults)
}

// showPlan prints the requests to the vaults.
func showPlan(plan []reads.Planned, a *asked) {
	fmt.Fprintf(a.stdout, "  requests  %s, if nothing of it is in the driver's memory\n", count(len(plan), "request"))
	table := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	for _, p := range plan {
		what := "for " + strings.Join(p.Objects, ", ")
		if p.List {
			what += "; and then one for each that matches"
		}
		if p.Optional {
			what += "; may be absent"
		}
		fmt.Fprintf(table, "    GET\t%s\t%s\n", p.URL, what)
	}
	_ = table.Flush() // an error of stdout cannot be shown better
}

// policyRules are the rules of the driver.
type policyRules struct {
	*policy.Policy
	from  string // where they are; empty if they cannot be read
	texts []string
}

// settings returns the flags of the driver on the node that parsing depends on, and its rules.
func (a *asked) settings(ctx context.Context, node string) (o renderOptions, rules policyRules) {
	o.cloud = "AzurePublicCloud"
	drivers, err := a.drivers(ctx)
	if err != nil {
		a.miss("the policy and the flags of the driver are not known, so the defaults are shown", err)
		return o, rules
	}
	d, there := drivers[node]
	if !there {
		some := slices.Min(slices.Collect(maps.Keys(drivers)))
		d = drivers[some]
		why := errors.New("no pod of the driver is on the node " + node)
		if node == "" {
			why = errors.New("the pod has no node yet")
		}
		a.miss("the flags and the policy are those of the driver on the node "+some, why)
	}
	o.cloud = d.Flag("cloud", o.cloud)
	o.authority, o.suffix = d.Flag("authority-host", ""), d.Flag("vault-dns-suffix", "")
	o.identityKind = d.Flag("default-identity", "")
	o.readWrite, _ = strconv.ParseBool(d.Flag("allow-read-write-requests", "false"))
	rules, err = a.rules(ctx, d)
	if err != nil {
		a.miss("the policy is not known", err)
	}
	return o, rules
}

func (a *asked) rules(ctx context.Context, d cluster.Driver) (rules policyRules, err error) {
	file, name, key := d.PolicyConfigMap()
	switch {
	case file == "":
		return policyRules{policy.Default(), "the driver, which has no policy file", nil}, nil
	case name == "":
		return rules, fmt.Errorf("%s of the driver's pod %s is no ConfigMap", file, d.Pod.Metadata.Name)
	}
	namespace := d.Pod.Metadata.Namespace
	text, err := a.ConfigMapKey(ctx, namespace, name, key)
	if errors.Is(err, cluster.ErrForbidden) {
		return rules, fmt.Errorf("get on the ConfigMap %s/%s is missing: %w", namespace, name, err)
	}
	if err != nil {
		return rules, err
	}
	where := fmt.Sprintf("the ConfigMap %s/%s", namespace, name)
	if rules.Policy, err = policy.Parse([]byte(text)); err != nil {
		return policyRules{}, fmt.Errorf("%s cannot be used, so the driver has other rules in force: %w", where, err)
	}
	rules.from = where
	var document struct{ Rules []yaml.Node }
	if err := yaml.Unmarshal([]byte(text), &document); err != nil {
		return policyRules{}, err
	}
	for _, rule := range document.Rules {
		rules.texts = append(rules.texts, flow(rule))
	}
	return rules, nil
}

// flow writes a rule in one line.
func flow(rule yaml.Node) string {
	dropComments(&rule)
	rule.Style = yaml.FlowStyle
	text, err := yaml.Marshal(&rule)
	if err != nil {
		return ""
	}
	return strings.Join(strings.Fields(string(text)), " ")
}

func dropComments(node *yaml.Node) {
	node.HeadComment, node.LineComment, node.FootComment = "", "", ""
	for _, child := range node.Content {
		dropComments(child)
	}
}

// showPolicy prints the decision for each vault, and reports whether the volume may be mounted, as far as that is known.
func (a *asked) showPolicy(rules policyRules, r volume.Request) bool {
	if rules.from == "" {
		fmt.Fprintln(a.stdout, "  policy    not known")
		return true
	}
	fmt.Fprintf(a.stdout, "  policy    of %s\n", rules.from)
	for _, d := range rules.Decisions(r) {
		verdict := "refused"
		switch {
		case d.Depends:
			verdict = "depends on the identity that answers; if no earlier rule is about it: refused"
			if d.Allowed {
				verdict = "depends on the identity that answers; if no earlier rule is about it: allowed"
			}
		case d.Allowed:
			verdict = "allowed"
		}
		by := "no rule matches"
		if d.Rule >= 0 {
			by = fmt.Sprintf("rules[%d]", d.Rule)
			if d.Rule < len(rules.texts) {
				by += " " + rules.texts[d.Rule]
			}
		}
		fmt.Fprintf(a.stdout, "    %s: %s: %s\n", d.Vault, verdict, by)
	}
	if r.Identity.ClientID == placeholderID {
		fmt.Fprintln(a.stdout, "    the client id is in a Secret, which is not read: a rule with clientIDs may decide otherwise")
	}
	_, err := rules.Allow(r)
	if err != nil {
		fmt.Fprintf(a.stdout, "    %v\n", err)
	}
	return err == nil
}
