package hostile_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"

	"github.com/keyvault-csi/keyvault-csi/internal/suite"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

const publishMethod = "/csi.v1.Node/NodePublishVolume"

// A process that may connect to the socket can send any message. Messages are read up to a limit.
func TestMessages(t *testing.T) {
	t.Parallel()
	s := newFixture(t)
	conn, err := grpc.NewClient("unix://"+s.Socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(raw{})))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	const limit = 512 << 10
	// A message with one field: number, length, content.
	field := func(number byte, content string) []byte {
		message := []byte{number<<3 | 2}
		for n := len(content); ; n >>= 7 {
			if n < 0x80 {
				message = append(message, byte(n))
				break
			}
			message = append(message, byte(n)|0x80)
		}
		return append(message, content...)
	}
	const volumeID, target = 1, 4
	const writable = "the volume is not read-only, and nothing may write to it; set readOnly: true under csi"
	readOnly := []byte{6 << 3, 1} // the field readonly: true
	sized := func(size int) []byte { return append(field(volumeID, strings.Repeat("v", size-6)), readOnly...) }
	for name, test := range map[string]struct {
		method  string
		message []byte
		code    codes.Code
		text    string
	}{
		"as large as may be":  {publishMethod, sized(limit), codes.InvalidArgument, "volume_id has 524282 bytes, more than the 128 of the CSI specification"},
		"one byte more":       {publishMethod, sized(limit + 1), codes.ResourceExhausted, "grpc: received message larger than max (524289 vs. 524288)"},
		"64 MiB":              {publishMethod, sized(64<<20 - 1), codes.ResourceExhausted, "grpc: received message larger than max (67108864 vs. 524288)"},
		"a target of 500 KB":  {publishMethod, slices.Concat(readOnly, field(volumeID, "v"), field(target, "/"+strings.Repeat("x", 500_000))), codes.InvalidArgument, "volume_capability is missing"},
		"no protobuf":         {publishMethod, []byte(strings.Repeat("\xff", 1000)), codes.Internal, "grpc: failed to unmarshal the received message: *"},
		"no UTF-8":            {publishMethod, field(volumeID, "\xff\xfe"), codes.Internal, "grpc: failed to unmarshal the received message: *"},
		"unknown fields":      {publishMethod, field(15, strings.Repeat(marker, 1000)), codes.InvalidArgument, writable},
		"groups in groups":    {publishMethod, []byte(strings.Repeat("\x7b", 100_000)), codes.Internal, "grpc: failed to unmarshal the received message: *"},
		"nothing":             {publishMethod, nil, codes.InvalidArgument, writable},
		"an unknown method":   {"/csi.v1.Node/" + strings.Repeat("x", 4000), nil, codes.Unimplemented, "unknown method *"},
		"an unknown service":  {"/" + strings.Repeat("x", 4000) + "/x", nil, codes.Unimplemented, "unknown service *"},
		"what it does not do": {"/csi.v1.Node/NodeStageVolume", nil, codes.Unimplemented, "*"},
		"a controller's call": {"/csi.v1.Controller/CreateVolume", nil, codes.Unimplemented, "unknown service csi.v1.Controller"},
		"a path of dots":      {"/csi.v1.Node/NodeGetVolumeStats", field(2, "/proc/self/root/"+strings.Repeat("../", 1000)), codes.InvalidArgument, "volume_id is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := suite.Context(t)
			var answer []byte
			err := conn.Invoke(ctx, test.method, test.message, &answer)
			s.check(t, err, test.code, test.text)
		})
	}
	t.Run("metadata", func(t *testing.T) {
		ctx := suite.Context(t)
		for i := range 200 {
			ctx = metadata.AppendToOutgoingContext(ctx, fmt.Sprintf("x-%d", i), strings.Repeat("y", 1000))
		}
		var answer []byte
		err := conn.Invoke(ctx, publishMethod, []byte(nil), &answer)
		s.check(t, err, codes.InvalidArgument, writable)
	})
	t.Run("a secret where names belong", func(t *testing.T) {
		ctx := suite.Context(t)
		request, err := s.Request(ctx, node.Volume("names", "secrets", "good"))
		if err != nil {
			t.Fatal(err)
		}
		request.GetSecrets()["clientsecret"] = strings.Repeat(marker, 40_000)
		request.GetSecrets()["clientid"] = marker
		request.TargetPath = "/etc"
		_, err = csi.NewNodeClient(s.Conn(t)).NodePublishVolume(ctx, request)
		s.check(t, err, codes.InvalidArgument, `target_path "/etc" is not below the kubelet's root `+s.Root+`/ (--kubelet-root)`)
	})
	s.verdict(t, "gRPC messages")
}

// Conn makes a new connection to the daemon, as the kubelet does for each call.
func (s *fixture) Conn(t *testing.T) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("unix://"+s.Socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// raw is a codec that sends and receives bytes unchanged.
type raw struct{}

func (raw) Name() string { return "proto" }

func (raw) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.([]byte))}, nil
}

func (raw) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

var _ encoding.CodecV2 = raw{}
