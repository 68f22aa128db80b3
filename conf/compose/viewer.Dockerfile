# syntax=docker/dockerfile:1
# The OHIF viewer's built site behind nginx, which hands DICOMweb reads on to Orthanc (viewer.conf).
ARG NODE_IMAGE=docker.io/library/node:22-bookworm-slim
ARG NGINX_IMAGE=docker.io/nginxinc/nginx-unprivileged:1.27-alpine

FROM ${NODE_IMAGE} AS site
ARG OHIF_VERSION=3.13.2
WORKDIR /site
RUN npm pack "@ohif/app@${OHIF_VERSION}" \
    && tar -xzf "ohif-app-${OHIF_VERSION}.tgz" --strip-components=1 \
    && rm "ohif-app-${OHIF_VERSION}.tgz"

FROM ${NGINX_IMAGE}
COPY --from=site /site/dist /usr/share/nginx/html
COPY viewer.js /usr/share/nginx/html/app-config.js
COPY viewer.conf /etc/nginx/conf.d/default.conf
EXPOSE 8080
