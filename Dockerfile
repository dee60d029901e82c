# The images of the node driver, of kvrun and of keyvault-csi-sync: each one static binary on nothing, beside its license and those of what is
# linked into it.
#
#   make image            builds them from source (this file's last stage, and its stages kvrun and keyvault-csi-sync; pulls the golang image)
#
# The images of a release are made without a builder, by tools/release/image, with the same content.

# The image that builds, for registries of your own: --build-arg GO_IMAGE=…
ARG GO_IMAGE=golang:1.26

FROM scratch AS base
LABEL org.opencontainers.image.title="keyvault-csi-driver" \
      org.opencontainers.image.description="CSI node driver: Azure Key Vault secrets and certificates as files in a pod's memory" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://github.com/keyvault-csi/keyvault-csi"
# The licenses of what is linked demand that their texts go with it.
COPY LICENSE THIRD_PARTY_NOTICES /licenses/
# Mounting needs root.
USER 0:0
ENTRYPOINT ["/keyvault-csi-driver"]

FROM scratch AS kvrun-base
LABEL org.opencontainers.image.title="kvrun" \
      org.opencontainers.image.description="Starts a program with environment variables from files, and again when they change" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://github.com/keyvault-csi/keyvault-csi"
COPY LICENSE THIRD_PARTY_NOTICES /licenses/
# Nobody: as an init container it writes into a volume of the pod (--install), which needs no right.
USER 65532:65532
ENTRYPOINT ["/kvrun"]

FROM scratch AS keyvault-csi-sync-base
LABEL org.opencontainers.image.title="keyvault-csi-sync" \
      org.opencontainers.image.description="Kubernetes Secrets of one namespace from the files of a volume of keyvault-csi" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://github.com/keyvault-csi/keyvault-csi"
COPY LICENSE cmd/keyvault-csi-sync/THIRD_PARTY_NOTICES /licenses/
USER 65534:65534
ENTRYPOINT ["/keyvault-csi-sync"]

FROM --platform=$BUILDPLATFORM $GO_IMAGE AS keyvault-csi-sync-build
ARG TARGETOS
ARG TARGETARCH
ARG VERSION=dev
WORKDIR /src
COPY cmd/keyvault-csi-sync/go.mod cmd/keyvault-csi-sync/go.sum ./
RUN go mod download
COPY cmd/keyvault-csi-sync .
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -buildvcs=false \
    -ldflags "-s -w -X main.version=$VERSION" -o /keyvault-csi-sync .

FROM keyvault-csi-sync-base AS keyvault-csi-sync
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.version="$VERSION" org.opencontainers.image.revision="$REVISION"
COPY --from=keyvault-csi-sync-build /keyvault-csi-sync /keyvault-csi-sync

FROM --platform=$BUILDPLATFORM $GO_IMAGE AS build
ARG TARGETOS
ARG TARGETARCH
ARG VERSION=dev
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
# Empty, as some builders leave them, they mean the builder's own.
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -tags grpcnotrace -trimpath -buildvcs=false \
    -ldflags "-s -w -X main.version=$VERSION" -o /built/ ./cmd/keyvault-csi-driver ./cmd/kvrun

FROM kvrun-base AS kvrun
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.version="$VERSION" org.opencontainers.image.revision="$REVISION"
COPY --from=build /built/kvrun /kvrun

FROM base
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.version="$VERSION" org.opencontainers.image.revision="$REVISION"
COPY --from=build /built/keyvault-csi-driver /keyvault-csi-driver
