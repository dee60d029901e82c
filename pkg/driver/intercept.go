package driver

import (
	"context"
	"errors"
	"fmt"
	"path"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"k8s.io/klog/v2"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// errInternal stands for a panic: what it said may hold anything.
var errInternal = errors.New("internal error; see the driver's log")

// intercept stands around every CSI call: it gives the handler a logger, errors a code, and counts and logs the
// outcome. The logger is that of Run, because a call's context descends from its connection.
func (d *Driver) intercept(logger klog.Logger) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		start := time.Now()
		method := path.Base(info.FullMethod)
		values, level := describe(req)
		if values != nil {
			ctx = klog.NewContext(ctx, logger.WithValues(values...))
		} else {
			ctx = klog.NewContext(ctx, logger)
		}

		resp, err := guard(ctx, req, handler)
		err = toStatus(err)

		code, took := status.Code(err), time.Since(start)
		d.metrics.operation(method, code, took)
		switch log := klog.FromContext(ctx); {
		case err != nil:
			text := status.Convert(err).Message()
			log.Error(errors.New(text), "call failed", keyMethod, method, keyCode, code.String(), keyDuration, took.String())
		case log.V(level).Enabled():
			log.V(level).Info("call", keyMethod, method, keyCode, code.String(), keyDuration, took.String())
		}
		return resp, err
	}
}

// describe picks what may be logged of a request, which is nothing but this, and the level that its success is
// worth. Everything else of a request may be, or hold, a secret.
func describe(req any) (values []any, level int) {
	switch r := req.(type) {
	case *csi.NodePublishVolumeRequest:
		// A string, which every logger quotes: this is logged before anybody has looked at the names.
		pod := r.GetVolumeContext()[volume.KubeletPodNamespace] + "/" + r.GetVolumeContext()[volume.KubeletPodName]
		return []any{keyVolumeID, cut(r.GetVolumeId()), keyTarget, cut(r.GetTargetPath()), keyPod, cut(pod)}, levelCalls
	case *csi.NodeUnpublishVolumeRequest:
		return []any{keyVolumeID, cut(r.GetVolumeId()), keyTarget, cut(r.GetTargetPath())}, levelCalls
	case *csi.NodeGetVolumeStatsRequest:
		return []any{keyVolumeID, cut(r.GetVolumeId()), keyTarget, cut(r.GetVolumePath())}, levelQuiet
	case *csi.NodeGetVolumeHealthRequest:
		return []any{keyVolumeID, cut(r.GetVolumeId()), keyTarget, cut(r.GetVolumePublishPath())}, levelQuiet
	default:
		return nil, levelQuiet
	}
}

// cut bounds what each line about a call repeats: a request may have 512 KiB, and nobody has judged it yet.
func cut(text string) string {
	const most = 1 << 10
	if len(text) <= most {
		return text
	}
	return text[:most] + "…"
}

// guard turns a panic of the handler into an error: one pod's volume must not take the node's others along.
func guard(ctx context.Context, req any, handler grpc.UnaryHandler) (resp any, err error) {
	defer recoverInto(ctx, &err)
	return handler(ctx, req)
}

// recoverInto must be deferred itself. It logs a panic by the type of its value and by where it happened: the value
// may be or quote a secret, and so may the argument words of a stack printed by package debug.
func recoverInto(ctx context.Context, err *error) {
	value := recover()
	if value == nil {
		return
	}
	klog.FromContext(ctx).Error(nil, "panic", keyType, fmt.Sprintf("%T", value), keyStack, callers())
	*err = errInternal
}

// callers are the functions that led to a panic, innermost first, with file and line.
func callers() []string {
	const self = 3 // runtime.Callers, callers, recoverInto
	pcs := make([]uintptr, 32)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(self, pcs)])

	var stack []string
	for more := true; more; {
		var f runtime.Frame
		f, more = frames.Next()
		if len(stack) == 0 && strings.HasPrefix(f.Function, "runtime.") {
			continue // the machinery of the panic itself
		}
		stack = append(stack, f.Function+" "+path.Base(f.File)+":"+strconv.Itoa(f.Line))
	}
	return stack
}
