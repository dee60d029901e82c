package migrate

import (
	"path"
	"slices"
	"strconv"

	"go.yaml.in/yaml/v3"
)

// planMounts turns the volumes that the agents write into volumes of this driver, and adapts the mounts of the other
// containers so that each file keeps its path.
//
// The root of the new volume is the folder with the agent's four folders, which may be below the root of the emptyDir.
func (p *plan) planMounts(agents []*agent) {
	for i, a := range agents {
		if slices.ContainsFunc(agents[:i], func(b *agent) bool { return b.volume.written == a.volume.written }) {
			continue // done with the first of the same volume
		}
		var together []*agent
		for _, b := range agents[i:] {
			if b.volume.written == a.volume.written {
				together = append(together, b)
			}
		}
		p.planVolume(together, agents)
	}
}

// planVolume plans one emptyDir and its agents: usually one, or several in different folders.
func (p *plan) planVolume(writers, agents []*agent) {
	for i, a := range writers {
		for _, b := range writers[:i] {
			_, inside := below(a.base, b.base)
			_, around := below(b.base, a.base)
			if inside || around {
				p.problem(a.node, "%s and %s write into the same folder of the volume %s, and one volume of this driver cannot be mounted within another; give each its own volume",
					b, a, quote(printable(a.volume.name)))
				return
			}
		}
	}
	names := []string{writers[0].volume.name}
	var more []*yaml.Node
	for i, a := range writers[1:] {
		names = append(names, p.freeName(writers[0].volume.name, i+2))
		more = append(more, mapping("name", names[i+1], "csi", a.csi()))
	}
	v := writers[0].volume
	key, _ := pair(v.node, "emptyDir")
	p.changes = append(p.changes, change{kind: replacePair, parent: v.node, target: key, key: "csi", values: []*yaml.Node{writers[0].csi()}})
	if len(more) > 0 {
		p.changes = append(p.changes, change{kind: insertItems, parent: v.list, target: v.written, values: more})
	}
	for _, c := range p.others(agents) {
		p.planContainer(c, v.name, writers, names)
	}
}

// freeName returns a name of a volume that the pod does not have yet.
func (p *plan) freeName(name string, number int) string {
	for {
		candidate := name + "-" + strconv.Itoa(number)
		if _, taken := p.workload.volume(candidate); !taken {
			return candidate
		}
		number++
	}
}

// planContainer adapts the mounts of a container that stays.
func (p *plan) planContainer(c container, volume string, writers []*agent, names []string) {
	for _, m := range c.mounts() {
		if m.volume != volume {
			continue
		}
		if how := writes(c, m); how != "" {
			p.problem(c.node, "%s writes into the volume %s (%s), which will be read-only; give it a volume of its own, or set readOnly: true on its mount if it only reads",
				c, quote(printable(volume)), printable(how))
			continue
		}
		switch {
		case m.expression:
			p.problem(m.node, "%s mounts the volume by subPathExpr", c)
			continue
		case m.volume == "" || !path.IsAbs(m.path):
			p.problem(m.node, "%s has a mount without a name or an absolute mountPath", c)
			continue
		}
		if !m.readOnly && c.field == initContainers {
			p.note(c.node, "%s could write into the volume %s, which is read-only now", c, quote(printable(volume)))
		}
		var views []view
		for i, a := range writers {
			if v, ok := m.viewOf(a.base); ok {
				v.volume = names[i]
				views = append(views, v)
			}
		}
		if len(views) == 0 {
			p.problem(m.node, "%s mounts the folder %s of the volume %s, where no secrets are", c, quote(printable(m.sub)), quote(printable(volume)))
			continue
		}
		for _, v := range views {
			if other, _, ok := c.mountAt(v.path); ok && other.written != m.written {
				p.problem(m.node, "%s has another mount at %s already", c, quote(printable(v.path)))
			}
		}
		p.changeMount(m, views)
	}
}

func (c container) mountAt(p string) (mount, int, bool) {
	for i, m := range c.mounts() {
		if m.path == p {
			return m, i, true
		}
	}
	return mount{}, 0, false
}

// view is the path and the part of a new volume that a container sees.
type view struct {
	volume, path, sub string
}

// viewOf returns what a mount of the emptyDir shows of its folder base.
func (m mount) viewOf(base string) (view, bool) {
	if rest, ok := below(base, m.sub); ok { // the mount shows the folder, and perhaps others
		return view{path: path.Join(m.path, rest)}, true
	}
	if rest, ok := below(m.sub, base); ok { // the mount shows a part of the folder
		return view{path: m.path, sub: rest}, true
	}
	return view{}, false
}

// changeMount changes a mount to the first of the views and adds mounts for the others.
func (p *plan) changeMount(m mount, views []view) {
	var more []*yaml.Node
	for _, v := range views[1:] {
		more = append(more, m.copyFor(v))
	}
	first := views[0]
	if first.volume != m.volume {
		p.changes = append(p.changes, change{kind: setScalar, target: get(m.node, "name"), key: first.volume})
	}
	if first.path != m.path {
		p.changes = append(p.changes, change{kind: setScalar, target: get(m.node, "mountPath"), key: first.path})
	}
	if key, value := pair(m.node, "subPath"); first.sub != m.sub && key != nil {
		if first.sub == "" {
			p.changes = append(p.changes, change{kind: removePair, parent: m.node, target: key})
		} else {
			p.changes = append(p.changes, change{kind: setScalar, target: resolve(value), key: first.sub})
		}
	}
	if len(more) > 0 {
		p.changes = append(p.changes, change{kind: insertItems, parent: m.list, target: m.written, values: more})
	}
}

func (m mount) copyFor(v view) *yaml.Node {
	entry := mapping("name", v.volume, "mountPath", v.path)
	if v.sub != "" {
		put(entry, "subPath", v.sub)
	}
	if m.readOnly {
		put(entry, "readOnly", boolean("true"))
	}
	return entry
}
