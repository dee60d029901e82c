package migrate

import (
	"path"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// looksLikeAgent recognises the agent by its image, its variables, or its command together with one of the variables.
func looksLikeAgent(c *yaml.Node) bool {
	if agentImage.MatchString(repository(text1(get(c, "image")))) {
		return true
	}
	var names []string
	nodes, _ := items(get(c, "env"))
	for _, node := range nodes {
		names = append(names, text1(get(node, "name")))
	}
	ours := func(name string) bool { return slices.Contains(names, name) }
	if ours(varVault) && (ours(varFolder) || ours(varKubernetes) || ours(varFile)) {
		return true
	}
	command := strings.Join(append(texts(get(c, "command")), texts(get(c, "args"))...), " ")
	return strings.Contains(command, "main.py") && slices.ContainsFunc(agentVariables, ours)
}

var agentImage = regexp.MustCompile(`(^|[-_.])(acs-)?(keyvault|key-vault)-?agent($|[-_.])`)

// repository returns the last part of an image's name, without tag and digest.
func repository(image string) string {
	image, _, _ = strings.Cut(path.Base(image), "@")
	image, _, _ = strings.Cut(image, ":")
	return strings.ToLower(image)
}

// texts returns the scalars of a list.
func texts(list *yaml.Node) (all []string) {
	nodes, _ := items(list)
	for _, node := range nodes {
		all = append(all, text1(node))
	}
	return all
}

// agent is one agent of a pod and its settings.
type agent struct {
	container
	settings
	volume podVolume
	base   string // the folder of the volume in which it writes its four folders; empty for the root
}

// planAgents plans the removal of every agent of a pod, and the volumes that replace them.
func (m *migration) planAgents(p *plan) {
	var found []container
	for _, c := range p.containers(initContainers, mainContainers, debugging) {
		named := m.options.Container != "" && c.name == m.options.Container && c.field == initContainers
		m.named = m.named || named
		if named || looksLikeAgent(c.node) {
			found = append(found, c)
			m.explained[c.node] = true
		}
	}
	if len(found) == 0 {
		return
	}
	if twice := doubled(p.spec); twice != nil {
		p.problem(twice, "the key %s is there twice, and readers of YAML differ in which one counts", quote(twice.Value))
		return
	}
	if p.runsOnWindows() {
		p.problem(found[0].node, "the pod is for Windows nodes, where this driver does not run; it keeps its init container")
		return
	}
	for _, c := range found {
		if where := m.patchOfAgent(c); where != "" {
			p.problem(c.node, "%s may be patched at %s; %s", c, where, buildAdvice)
			return
		}
	}
	var agents []*agent
	for _, c := range found {
		if a := m.readAgent(p, c); a != nil {
			agents = append(agents, a)
		}
	}
	if p.blocked {
		return
	}
	p.planMounts(agents)
	p.planRemoval(agents)
	for _, a := range agents {
		if a.secret != nil && !m.logins[a.secretKey()] && !slices.Contains(p.logins, a.secretKey()) {
			p.logins = append(p.logins, a.secretKey())
			p.changes = append(p.changes, change{kind: appendDocument, values: []*yaml.Node{a.secret}})
		}
	}
}

// readAgent reads the settings of an agent. It returns nil after a problem.
func (m *migration) readAgent(p *plan, c container) *agent {
	before := p.blocked
	p.blocked = false
	defer func() { p.blocked = p.blocked || before }()
	env := readEnvironment(p, c)
	switch {
	case c.field != initContainers && env.isTrue(varKubernetes, false):
		p.problem(c.node, "%s writes Secrets of Kubernetes (%s), which no volume can; keep it, or mount a volume where the Secrets are used", c, varKubernetes)
		return nil
	case c.field != initContainers:
		p.problem(c.node, "%s is acs-keyvault-agent beside the application, not before it; take it out by hand, this driver's files are renewed by themselves", c)
		return nil
	case env.isTrue(varKubernetes, false):
		p.problem(c.node, "%s writes Secrets of Kubernetes (%s), which no volume can; mount a volume where the Secrets are used", c, varKubernetes)
		return nil
	}
	a := &agent{container: c}
	a.settings = m.readSettings(p, c, env)
	m.placeOutput(p, a, env)
	if p.blocked {
		return nil
	}
	return a
}

// placeOutput finds the volume that an agent writes into.
func (m *migration) placeOutput(p *plan, a *agent, env *environment) {
	folder, given := env.get(varFolder)
	if !given || !strings.HasPrefix(folder, "/") {
		p.problem(a.node, "%s has no %s with an absolute path", a, varFolder)
		return
	}
	target, rest, ok := a.mountFor(folder)
	if !ok {
		p.problem(a.node, "%s writes to %s, which is in none of its volumeMounts", a, quote(printable(folder)))
		return
	}
	volume, known := p.workload.volume(target.volume)
	switch {
	case target.expression:
		p.problem(target.node, "%s mounts the volume by subPathExpr", a)
	case !known || target.volume == "":
		p.problem(target.node, "the volume %s of %s is not among the pod's volumes", quote(printable(target.volume)), a)
	case hasKey(volume.node, "csi"):
		p.problem(volume.node, "the volume %s has another source beside emptyDir", quote(printable(volume.name)))
	case get(volume.node, "emptyDir") == nil && !hasKey(volume.node, "emptyDir"):
		p.problem(volume.node, "%s writes to the volume %s, which is no emptyDir and may be used elsewhere", a, quote(printable(volume.name)))
	}
	a.volume, a.base = volume, path.Join(target.sub, rest)
}

func hasKey(node *yaml.Node, name string) bool {
	key, _ := pair(node, name)
	return key != nil
}

// planRemoval plans the removal of the agents, and of the volumes of the node (azure.json) that only they mount.
func (p *plan) planRemoval(agents []*agent) {
	list := agents[0].list
	nodes, written := items(list)
	if len(nodes) == len(agents) {
		key, value := pair(p.spec, initContainers)
		if value.Kind == yaml.AliasNode {
			p.problem(value, "the list of init containers is an alias; write it out")
			return
		}
		p.changes = append(p.changes, change{kind: removePair, parent: p.spec, target: key})
	} else {
		for _, a := range agents {
			p.changes = append(p.changes, change{kind: removeItem, parent: list, target: written[slices.Index(written, a.written)]})
		}
	}
	for _, v := range p.workload.volumes() {
		if get(v.node, "hostPath") != nil && mountedBy(v, agents) && !p.usedByOthers(v.name, agents) {
			p.changes = append(p.changes, change{kind: removeItem, parent: v.list, target: v.written})
		}
	}
}

func mountedBy(v podVolume, agents []*agent) bool {
	return slices.ContainsFunc(agents, func(a *agent) bool {
		return slices.ContainsFunc(a.mounts(), func(m mount) bool { return m.volume == v.name })
	})
}

// usedByOthers reports whether a container that stays mounts the volume.
func (p *plan) usedByOthers(volume string, agents []*agent) bool {
	for _, c := range p.others(agents) {
		for _, m := range c.mounts() {
			if m.volume == volume {
				return true
			}
		}
	}
	return false
}

// others returns the containers of the pod that stay.
func (p *plan) others(agents []*agent) (all []container) {
	for _, c := range p.containers(initContainers, mainContainers, debugging) {
		if !slices.ContainsFunc(agents, func(a *agent) bool { return a.written == c.written }) {
			all = append(all, c)
		}
	}
	return all
}
