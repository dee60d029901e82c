package volume

// ChangeDetection is how a refresh finds out which objects have changed. The values are those of the attribute.
type ChangeDetection string

// The ways to find out.
const (
	DetectByReading ChangeDetection = "read" // reads every object
	DetectByListing ChangeDetection = "list" // lists the vault, and reads what the list does not show to be unchanged
)

func (p *parser) changeDetection() ChangeDetection {
	if !p.given(AttributeChangeDetection) {
		return p.defaults.ChangeDetection
	}
	return choice(p, AttributeChangeDetection, DetectByReading, DetectByListing)
}
