# The fake AI Hub: docker build -t fake-aihub . && docker run --rm -p 127.0.0.1:8800:8800 fake-aihub
FROM python:3.13-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY runner runner
COPY fake_server fake_server
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.13-slim
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir /wheels/*.whl \
    && rm -rf /wheels \
    && useradd --system --uid 10001 --create-home fake \
    && install -d -o fake /data
USER 10001
EXPOSE 8800
VOLUME /data
HEALTHCHECK --interval=10s --timeout=3s CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8800/_fake/clock', timeout=2)"]
# Other containers reach it by a name. For its page and controls, add --allowed-host NAME.
ENTRYPOINT ["fake-aihub", "--host", "0.0.0.0", "--data-dir", "/data"]
