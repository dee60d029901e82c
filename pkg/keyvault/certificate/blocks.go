package certificate

import "encoding/pem"

// Blocks returns the blocks of a PEM text that are certificates, or all others, in the order of the text. It skips what is no
// block, as the Azure provider of the Secrets Store CSI Driver does, which writes files with these blocks.
func Blocks(text []byte, certificates bool) (data []byte) {
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return data
		}
		if (block.Type == "CERTIFICATE") == certificates {
			data = append(data, pem.EncodeToMemory(block)...)
		}
	}
}
